"""Exports of datasets, and those that go on."""

from services.database.migration import execute
from services.operations.backlog import backlog_table
from services.resources.table import resource_table

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the tables. With a dataset go its exports."""
    execute(
        *resource_table("dataset_exports", "state smallint NOT NULL", indexed=["state"]),
        "ALTER TABLE dataset_exports ADD FOREIGN KEY (parent) REFERENCES datasets (name) ON DELETE CASCADE",
        *backlog_table("dataset_export_work", 'export text COLLATE "C"', "dataset_exports (name)"),
    )
