"""The task tables."""

from services.common.migration import execute
from services.common.tasks.schema import TASK_TABLES

revision = "0001"
down_revision = None


def upgrade() -> None:
    execute(*TASK_TABLES)
