"""Groups of tasks."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_GROUPS

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table."""
    execute(*TASK_GROUPS)
