"""An index by which old requests are forgotten."""

from services.common.idempotency import REQUEST_IDS_BY_AGE
from services.common.migration import execute

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the index."""
    execute(REQUEST_IDS_BY_AGE)
