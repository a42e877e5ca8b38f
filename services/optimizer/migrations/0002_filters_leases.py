"""Indexes for the filters of lists, and leases."""

from services.database.leases import LEASES_TABLE
from services.database.migration import execute
from services.tasks.state.schema import TASK_FILTERS

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the indexes and the table."""
    execute(*TASK_FILTERS, LEASES_TABLE, "CREATE INDEX records_sha256 ON records (sha256)")
