"""Profile tasks."""

from services.changes.outbox import CHANGES_TABLE
from services.database.leases import LEASES_TABLE
from services.database.migration import execute
from services.tasks.state.schema import DELETED_REQUESTS, TASK_FILTERS, TASK_QUEUE, TASK_TABLES, TASK_USES

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the task engine."""
    execute(*TASK_TABLES, *DELETED_REQUESTS, *TASK_USES, *TASK_FILTERS, LEASES_TABLE, CHANGES_TABLE, *TASK_QUEUE)
