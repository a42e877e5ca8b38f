from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from lathe.registry.v1.architecture_service_pb2 import Architecture, ListArchitecturesResponse
from lathe.registry.v1.model_service_pb2 import ListModelVersionsResponse, ModelFormat, ModelVersion

from services.database.pool import Database, migrate
from services.resources.filters.fields import word_field
from services.resources.kind import ResourceKind
from services.resources.listing import ListQuery
from services.resources.scope import Stated
from services.resources.store import ResourceStore
from tests.integration.resources import migrations

M = TypeVar("M", bound=Message)

ARCHITECTURES = ResourceKind(
    Architecture,
    table="architectures",
    collection="architectures",
    noun="architecture",
    columns={"class_name": lambda architecture: architecture.class_name},
    unique=["class_name"],
    detail_fields=["source", "config"],
    id_source=lambda architecture: architecture.class_name,
    retires_names=lambda architecture: architecture.display_name != "Draft",
    scope=Stated(),
    shared_in=("versions",),
)
VERSIONS = ResourceKind(
    ModelVersion,
    table="versions",
    collection="versions",
    noun="model version",
    columns={"format": lambda version: version.format},
    fields={"format": word_field(ModelFormat)},
    searched=lambda version: [version.name.split("/")[1], version.display_name],
)


async def page_of(store: ResourceStore[M], query: ListQuery) -> tuple[list[M], str]:
    """Return the entries of a page, and the token of the next."""
    entries: dict[str, Any] = {
        "architecture": ListArchitecturesResponse().architectures,
        "model version": ListModelVersionsResponse().model_versions,
    }
    page = entries[store._kind.noun]
    token = await store.list(query, page)
    return list(page), token


@pytest.fixture(scope="session")
async def migrated(postgres_url: str) -> AsyncIterator[Database]:
    await migrate(postgres_url, "resources", migrations)
    database = await Database.connect(postgres_url, "resources")
    yield database
    await database.close()


@pytest.fixture
async def database(migrated: Database) -> Database:
    await migrated.execute("TRUNCATE architectures, versions, outbox, request_ids, retired_names")
    return migrated


@pytest.fixture
def architectures(database: Database) -> ResourceStore[Architecture]:
    return ResourceStore(database, ARCHITECTURES)


@pytest.fixture
def versions(database: Database) -> ResourceStore[ModelVersion]:
    return ResourceStore(database, VERSIONS)
