"""Indexes for the filters of lists, and leases."""

from services.database.leases import LEASES_TABLE
from services.database.migration import execute
from services.tasks.state.schema import TASK_FILTERS

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the indexes and the table."""
    execute(*TASK_FILTERS, LEASES_TABLE)
