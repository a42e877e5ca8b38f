"""Groups of tasks."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_GROUPS

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    execute(*TASK_GROUPS)
