"""The audit log."""

from services.audit.schema import AUDIT_TABLE
from services.database.migration import execute

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    execute(*AUDIT_TABLE)
