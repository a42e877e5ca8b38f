"""Comparisons become resources like others, and are made in the background."""

from services.database.migration import execute
from services.operations.backlog import backlog_table

revision = "0005"
down_revision = "0004"

# `uid`, `etag` and `state` of a comparison that is there already, which is SUCCEEDED. Serialized fields that follow a
# message are part of it.
_MORE = """
    '\\x6224'::bytea || convert_to(uid::text, 'UTF8')
    || '\\x82011622'::bytea
    || convert_to(substr(encode(sha256(uuid_send(uid) || int8send(1)), 'hex'), 1, 20), 'UTF8')
    || '\\x22880102'::bytea
"""


def upgrade() -> None:
    """Add the columns of resources, and the table of work."""
    execute(
        """
        ALTER TABLE comparisons
            ADD COLUMN parent text COLLATE "C" NOT NULL DEFAULT '',
            ADD COLUMN display_name text NOT NULL DEFAULT '',
            ADD COLUMN labels jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN update_time timestamptz NOT NULL DEFAULT now(),
            ADD COLUMN revision bigint NOT NULL DEFAULT 1,
            ADD COLUMN state smallint NOT NULL DEFAULT 2,
            ADD COLUMN search_text text COLLATE "C" NOT NULL DEFAULT '',
            ADD COLUMN search_grams text[] COLLATE "C" NOT NULL
                GENERATED ALWAYS AS (lathe.grams(search_text)) STORED
        """,
        f"UPDATE comparisons SET update_time = create_time, search_text = uid::text, body = body || {_MORE}",  # noqa: S608
        "CREATE INDEX ON comparisons (update_time, uid)",
        "CREATE INDEX ON comparisons (display_name, uid)",
        "CREATE INDEX ON comparisons USING gin (labels jsonb_path_ops)",
        "CREATE INDEX ON comparisons USING gin (search_grams)",
        *backlog_table("comparison_work", 'comparison text COLLATE "C"', "comparisons (name)"),
    )
