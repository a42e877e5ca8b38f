"""What tasks use."""

from services.database.migration import execute
from services.tasks.state.schema import TASK_USES

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column and its index."""
    execute(*TASK_USES)
