"""The tables of resources, for migrations.

Their results never change, because released migrations call them: another layout needs another function.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["RETIRED_NAMES_READERS", "RETIRED_NAMES_TABLE", "project_columns", "resource_table", "search_columns"]

RETIRED_NAMES_TABLE = """
    -- Names of deleted resources to which others may still refer: they are not given again.
    CREATE TABLE retired_names (
        name text COLLATE "C" PRIMARY KEY,
        delete_time timestamptz NOT NULL DEFAULT now()
    )
"""
"""The statement that creates the table for kinds that retire their names (`ResourceKind.retires_names`)."""

RETIRED_NAMES_READERS = """
    ALTER TABLE retired_names ADD COLUMN readers text[] COLLATE "C" NOT NULL DEFAULT '{}'
"""
"""The statement that adds who could read what had a name, for kinds with a `scope`."""

SEARCH_COLUMNS = """
    search_text text COLLATE "C" NOT NULL,
    search_grams text[] COLLATE "C" NOT NULL GENERATED ALWAYS AS (lathe.grams(search_text)) STORED
"""


def search_columns() -> str:
    """Return the columns that `services.resources.search` needs in a CREATE TABLE. Give `search_grams` a GIN index."""
    return SEARCH_COLUMNS.strip()


def resource_table(
    table: str, *extra_columns: str, unique: Sequence[str] = (), indexed: Sequence[str] = ()
) -> list[str]:
    """Return the statements that create the table of a `ResourceStore`.

    Args:
        table: its name.
        extra_columns: definitions such as `class_name text NOT NULL`.
        unique: columns, extra or not, of which no two rows may have the same value.
        indexed: columns by which lists are filtered; each gets an index in the lists' default order.
    """
    columns = "".join(f",\n    {column}" for column in extra_columns)
    create = f"""
        CREATE TABLE {table} (
            uid uuid PRIMARY KEY,
            name text COLLATE "C" NOT NULL CONSTRAINT {table}_name_key UNIQUE,
            parent text COLLATE "C" NOT NULL,
            display_name text NOT NULL,
            owner text COLLATE "C" NOT NULL,
            labels jsonb NOT NULL,
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL,
            revision bigint NOT NULL,
            {search_columns()},
            body bytea NOT NULL,
            detail bytea NOT NULL{columns}
        )
    """
    ordered = [f"CREATE INDEX ON {table} ({column}, uid)" for column in ("create_time", "update_time", "display_name")]
    filtered = [f"CREATE INDEX ON {table} ({column}, create_time, uid)" for column in ("parent", "owner", *indexed)]
    return [
        create,
        *ordered,
        *filtered,
        f"CREATE INDEX ON {table} USING gin (labels jsonb_path_ops)",
        f"CREATE INDEX ON {table} USING gin (search_grams)",
        *(f"ALTER TABLE {table} ADD CONSTRAINT {table}_{column}_key UNIQUE ({column})" for column in unique),
    ]


def project_columns(table: str) -> list[str]:
    """Return the statements that add what a kind with a `scope` needs to its table; what is there is in the default."""
    return [
        f"""
        ALTER TABLE {table}
            ADD COLUMN project text COLLATE "C" NOT NULL DEFAULT 'projects/default',
            ADD COLUMN readers text[] COLLATE "C" NOT NULL DEFAULT '{{projects/default}}'
        """,
        f"CREATE INDEX ON {table} USING gin (readers)",
    ]
