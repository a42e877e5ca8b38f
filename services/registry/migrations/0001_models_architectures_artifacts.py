"""Models and their versions, architectures, uploads and blobs."""

from services.database.migration import execute
from services.resources.idempotency import REQUEST_IDS_TABLE
from services.resources.table import resource_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table of the registry."""
    execute(REQUEST_IDS_TABLE, *_models(), *_architectures(), *_versions(), *_artifacts())


def _models() -> list[str]:
    return resource_table(
        "models",
        # The number of the newest version that ever was; numbers are never used again.
        "last_number int NOT NULL DEFAULT 0",
        "version_count int NOT NULL DEFAULT 0",
    )


def _architectures() -> list[str]:
    return resource_table(
        "architectures",
        'class_name text COLLATE "C" NOT NULL',
        "certification smallint NOT NULL",
        unique=["class_name", "display_name"],
        indexed=["certification"],
    )


def _versions() -> list[str]:
    return [
        *resource_table(
            "model_versions",
            "number int NOT NULL",
            "format smallint NOT NULL",
            'device text COLLATE "C" NOT NULL',
            indexed=["format", "device"],
        ),
        "ALTER TABLE model_versions ADD FOREIGN KEY (parent) REFERENCES models (name)",
        "CREATE UNIQUE INDEX ON model_versions (parent, number)",
        # What a version contains: as large as its graphs, and read far less often than the version.
        """
        CREATE TABLE descriptions (
            version text COLLATE "C" PRIMARY KEY REFERENCES model_versions (name) ON DELETE CASCADE,
            body bytea NOT NULL
        )
        """,
        # `source` was used to make `target`. A source is a version, an architecture, a template or a task.
        """
        CREATE TABLE lineage_edges (
            source text COLLATE "C" NOT NULL,
            target text COLLATE "C" NOT NULL REFERENCES model_versions (name) ON DELETE CASCADE,
            PRIMARY KEY (source, target)
        )
        """,
        "CREATE INDEX ON lineage_edges (target)",
        # Tasks that use a version; it is not deleted before they end.
        """
        CREATE TABLE holds (
            version text COLLATE "C" NOT NULL REFERENCES model_versions (name) ON DELETE CASCADE,
            holder text COLLATE "C" NOT NULL,
            expire_time timestamptz NOT NULL,
            PRIMARY KEY (version, holder)
        )
        """,
        "CREATE INDEX ON holds (expire_time)",
    ]


def _artifacts() -> list[str]:
    return [
        """
        CREATE TABLE uploads (
            uid uuid PRIMARY KEY,
            display_name text NOT NULL,
            size_bytes bigint NOT NULL,
            state smallint NOT NULL,
            owner text COLLATE "C" NOT NULL,
            create_time timestamptz NOT NULL,
            expire_time timestamptz NOT NULL,
            sha256 text COLLATE "C" NOT NULL DEFAULT ''
        )
        """,
        "CREATE INDEX ON uploads (state, expire_time)",
        """
        CREATE TABLE blobs (
            sha256 text COLLATE "C" PRIMARY KEY,
            size_bytes bigint NOT NULL,
            create_time timestamptz NOT NULL
        )
        """,
    ]
