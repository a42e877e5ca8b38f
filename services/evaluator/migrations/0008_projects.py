"""The project of each task, group and comparison."""

from services.database.migration import execute
from services.resources.table import project_columns
from services.tasks.state.schema import TASK_PROJECTS

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns and their indexes."""
    execute(*TASK_PROJECTS, *project_columns("task_groups"), *project_columns("comparisons"))
