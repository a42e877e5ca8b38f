"""Tasks are found by what they use, those that are there already among them."""

from lathe.converter.v1.conversion_service_pb2 import ConversionTask

from services.converter.uses import used_by
from services.database.migration import execute
from services.tasks.state.schema import TASK_USES, record_uses

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, fill it in, and index it."""
    execute(*TASK_USES)
    record_uses(ConversionTask, used_by)
