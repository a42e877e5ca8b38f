"""Requests whose tasks are deleted."""

from services.common.migration import execute
from services.common.tasks.schema import DELETED_REQUESTS

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    execute(*DELETED_REQUESTS)
