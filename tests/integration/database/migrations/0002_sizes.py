"""One column more."""

from services.database.migration import execute

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add it, with the characters that a driver could take for parameters."""
    execute(
        "ALTER TABLE things ADD COLUMN size int NOT NULL DEFAULT 0", "UPDATE things SET name = '50% :done' || $$?$$"
    )
