"""Leases, and an index by which old requests are forgotten."""

from services.database.leases import LEASES_TABLE
from services.database.migration import execute
from services.resources.idempotency import REQUEST_IDS_BY_AGE

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the indexes and the table."""
    execute(LEASES_TABLE, REQUEST_IDS_BY_AGE)
