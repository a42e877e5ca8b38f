"""Projects: where templates belong. The built-in ones are everybody's."""

from services.database.migration import execute
from services.resources.table import project_columns

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Let everything that is there belong to the default project."""
    execute(
        *project_columns("templates"),
        "UPDATE templates SET project = '', readers = '{projects/-}' WHERE built_in",
    )
