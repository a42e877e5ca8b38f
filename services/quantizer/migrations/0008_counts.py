"""Tasks are counted by project and state."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_COUNTS

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the index."""
    execute(*TASK_COUNTS)
