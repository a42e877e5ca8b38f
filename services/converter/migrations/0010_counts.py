"""Tasks are counted by project and state."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_COUNTS

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the index."""
    execute(*TASK_COUNTS)
