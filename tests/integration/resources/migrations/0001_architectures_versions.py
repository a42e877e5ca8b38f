"""A resource with unique and large fields, and one with a parent."""

from services.database.migration import execute
from services.resources.idempotency import REQUEST_IDS_TABLE
from services.resources.table import RETIRED_NAMES_READERS, RETIRED_NAMES_TABLE, project_columns, resource_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, and one to be written together with a resource."""
    execute(
        REQUEST_IDS_TABLE,
        RETIRED_NAMES_TABLE,
        RETIRED_NAMES_READERS,
        *resource_table("architectures", "class_name text NOT NULL", unique=["class_name"]),
        *resource_table("versions", "format int NOT NULL", "seen int NOT NULL DEFAULT 0", indexed=["format"]),
        *project_columns("architectures"),
        *project_columns("versions"),
        "CREATE TABLE outbox (subject text NOT NULL)",
    )
