"""Saves of results, and those that go on."""

from services.database.migration import execute
from services.operations.backlog import backlog_table
from services.resources.table import resource_table

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the tables."""
    execute(
        *resource_table("model_saves", "state smallint NOT NULL", indexed=["state"]),
        *backlog_table("model_save_work", 'save text COLLATE "C"', "model_saves (name)"),
    )
