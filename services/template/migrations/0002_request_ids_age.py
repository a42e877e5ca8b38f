"""An index by which old requests are forgotten."""

from services.database.migration import execute
from services.resources.idempotency import REQUEST_IDS_BY_AGE

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the index."""
    execute(REQUEST_IDS_BY_AGE)
