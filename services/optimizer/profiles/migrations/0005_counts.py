"""Tasks are counted by project and state."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_COUNTS

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the index."""
    execute(*TASK_COUNTS)
