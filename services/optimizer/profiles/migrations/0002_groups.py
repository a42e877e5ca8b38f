"""Groups of tasks."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_GROUPS

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    execute(*TASK_GROUPS)
