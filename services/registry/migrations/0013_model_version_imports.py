"""Imports of versions, and those that go on."""

from services.database.migration import execute
from services.operations.backlog import backlog_table
from services.resources.table import resource_table

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the tables. With a model go its imports."""
    execute(
        *resource_table("model_version_imports", "state smallint NOT NULL", indexed=["state"]),
        "ALTER TABLE model_version_imports ADD FOREIGN KEY (parent) REFERENCES models (name) ON DELETE CASCADE",
        *backlog_table("model_version_import_work", 'import text COLLATE "C"', "model_version_imports (name)"),
    )
