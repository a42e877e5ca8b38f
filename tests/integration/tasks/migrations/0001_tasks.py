"""The task tables."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_TABLES

revision = "0001"
down_revision = None


def upgrade() -> None:
    execute(*TASK_TABLES)
