"""Indexes for the filters of lists, and leases."""

from services.common.leases import LEASES_TABLE
from services.common.migration import execute
from services.common.tasks.schema import TASK_FILTERS

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the indexes and the table."""
    execute(*TASK_FILTERS, LEASES_TABLE)
