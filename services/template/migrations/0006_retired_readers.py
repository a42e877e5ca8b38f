"""To whom it is told that a name was that of something which is deleted."""

from services.database.migration import execute
from services.resources.table import RETIRED_NAMES_READERS

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the readers; whose names were retired before is told to nobody but administrators."""
    execute(RETIRED_NAMES_READERS)
