"""Aliases: names that move from version to version."""

from services.database.migration import execute
from services.resources.table import resource_table

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table."""
    execute(
        *resource_table("aliases", 'model_version text COLLATE "C" NOT NULL REFERENCES model_versions (name)'),
        "ALTER TABLE aliases ADD FOREIGN KEY (parent) REFERENCES models (name)",
        "CREATE INDEX ON aliases (model_version)",
    )
