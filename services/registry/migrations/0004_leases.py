"""Leases, and an index by which old requests are forgotten."""

from services.common.idempotency import REQUEST_IDS_BY_AGE
from services.common.leases import LEASES_TABLE
from services.common.migration import execute

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the indexes and the table."""
    execute(LEASES_TABLE, REQUEST_IDS_BY_AGE)
