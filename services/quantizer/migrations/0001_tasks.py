"""Quantization tasks."""

from services.database.migration import execute
from services.tasks.state.schema import DELETED_REQUESTS, TASK_TABLES, TASK_USES

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the task engine."""
    execute(*TASK_TABLES, *DELETED_REQUESTS, *TASK_USES)
