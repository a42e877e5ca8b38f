"""The audit log."""

from services.audit.schema import AUDIT_TABLE
from services.database.migration import execute

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    execute(*AUDIT_TABLE)
