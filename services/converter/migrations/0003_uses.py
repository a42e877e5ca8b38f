"""Tasks are found by what they use, those that are there already among them."""

from lathe.converter.v1.conversion_service_pb2 import ConversionTask

from services.common.migration import execute
from services.common.tasks.schema import TASK_USES, record_uses
from services.converter.uses import used_by

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, fill it in, and index it."""
    execute(*TASK_USES)
    record_uses(ConversionTask, used_by)
