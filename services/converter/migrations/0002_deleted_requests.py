"""Requests whose tasks are deleted: a repeat of one makes no second task."""

from services.database.migration import execute
from services.tasks.state.schema import DELETED_REQUESTS

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    execute(*DELETED_REQUESTS)
