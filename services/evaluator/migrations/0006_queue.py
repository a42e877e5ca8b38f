"""The tasks that wait for a worker, and their priorities."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_QUEUE

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column and create the table."""
    execute(*TASK_QUEUE)
