"""Templates, built-in ones included."""

from services.database.migration import execute
from services.resources.idempotency import REQUEST_IDS_TABLE
from services.resources.table import resource_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table of templates."""
    execute(
        REQUEST_IDS_TABLE,
        *resource_table(
            "templates",
            'device text COLLATE "C" NOT NULL',
            'runtime text COLLATE "C" NOT NULL',
            "source_format smallint NOT NULL",
            "built_in boolean NOT NULL",
            unique=["display_name"],
            indexed=["device", "runtime"],
        ),
    )
