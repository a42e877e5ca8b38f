"""What each project stores, found by its name."""

from services.database.migration import execute

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Create the index. The first reader of what has bytes is its project."""
    execute("CREATE INDEX artifact_uses_project ON artifact_uses ((readers[1]))")
