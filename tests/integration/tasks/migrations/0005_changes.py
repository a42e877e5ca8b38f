"""Changes that are to be published."""

from services.changes.outbox import CHANGES_TABLE
from services.database.migration import execute

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table."""
    execute(CHANGES_TABLE)
