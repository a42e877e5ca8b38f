"""A first table."""

from services.database.migration import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create it slowly, so that a second process would come between."""
    execute(
        "CREATE TABLE things (name text PRIMARY KEY)", "SELECT pg_sleep(0.2)", "INSERT INTO things VALUES ('first')"
    )
