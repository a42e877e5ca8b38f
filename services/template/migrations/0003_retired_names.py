"""Names that are not given again: others refer to what had them."""

from services.database.migration import execute
from services.resources.table import RETIRED_NAMES_TABLE

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    execute(RETIRED_NAMES_TABLE)
