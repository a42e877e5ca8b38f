"""The project of each task, group, save and record."""

from services.database.migration import execute
from services.resources.table import project_columns
from services.tasks.state.schema import TASK_PROJECTS

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns and their indexes."""
    execute(*TASK_PROJECTS, *project_columns("task_groups"), *project_columns("model_saves"))
    execute(
        """ALTER TABLE records ADD COLUMN project text COLLATE "C" NOT NULL DEFAULT 'projects/default'""",
        "DROP INDEX records_newest",
        "CREATE INDEX records_newest ON records (source, device, project, create_time)",
    )
