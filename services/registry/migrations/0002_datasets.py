"""Datasets, the imports that still go on, and the tasks that use a dataset."""

from services.database.migration import execute
from services.resources.table import resource_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create every table of datasets."""
    execute(
        *resource_table(
            "datasets",
            # The display name without regard to case.
            "name_key text NOT NULL",
            "type smallint NOT NULL",
            "state smallint NOT NULL",
            unique=["name_key"],
            indexed=["type", "state"],
        ),
        # One row per dataset whose import goes on. Whoever works on it renews the lease; when that has passed, whoever
        # comes first takes over. Progress changes too often to be part of the dataset.
        """
        CREATE TABLE dataset_imports (
            dataset text COLLATE "C" PRIMARY KEY REFERENCES datasets (name) ON DELETE CASCADE,
            accept_mismatches boolean NOT NULL,
            indexes bytea NOT NULL,
            attempts int NOT NULL DEFAULT 0,
            holder uuid,
            lease_time timestamptz NOT NULL,
            progress double precision NOT NULL DEFAULT 0,
            create_time timestamptz NOT NULL
        )
        """,
        "CREATE INDEX ON dataset_imports (lease_time)",
        # Tasks that use a dataset; it is not deleted before they end.
        """
        CREATE TABLE dataset_holds (
            dataset text COLLATE "C" NOT NULL REFERENCES datasets (name) ON DELETE CASCADE,
            holder text COLLATE "C" NOT NULL,
            expire_time timestamptz NOT NULL,
            PRIMARY KEY (dataset, holder)
        )
        """,
        "CREATE INDEX ON dataset_holds (expire_time)",
        # The archive of an index: the same index is packed once.
        """
        CREATE TABLE dataset_archives (
            index_sha256 text COLLATE "C" PRIMARY KEY,
            sha256 text COLLATE "C" NOT NULL,
            size_bytes bigint NOT NULL
        )
        """,
    )
