"""Everything in the object store that somebody refers to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import grpc
from lathe.internal.v1.reference_service_pb2 import ListReferencesRequest
from lathe.internal.v1.reference_service_pb2_grpc import ReferenceServiceStub
from lathe.registry.v1.artifact_service_pb2 import UPLOAD_STATE_ABORTED
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.type.v1.digest_pb2 import Digest
from nats.js.errors import NoKeysError

from engines.failures import EngineFailure, FailureReason
from services.bus.topology import TIMINGS
from services.platform.errors import LatheError, from_rpc_error
from services.process.composition import Platform
from services.process.references import digests_in, oldest_work, others, references
from services.registry.datasets.index_files import IndexFiles

__all__ = ["References"]

# They name what was stored or may be removed, and keep nothing themselves. Of uploads, only some do; an archive stays
# as long as the index that it was packed from.
_INVENTORY = ("artifact_uses", "blobs", "condemned", "marks", "uploads", "dataset_archives")
_CHUNK = 20_000
_UPLOADS = "SELECT project, sha256, wanted_sha256 FROM uploads WHERE state <> $1"
_DATASETS = "SELECT name, project, body FROM datasets WHERE name > $1 ORDER BY name LIMIT 100"
_ARCHIVES = "SELECT index_sha256, sha256 FROM dataset_archives"


class References:
    """Asks every service, and reads what the registry itself knows."""

    def __init__(self, platform: Platform, indexes: IndexFiles) -> None:
        self._platform = platform
        self._database = platform.database
        self._indexes = indexes
        self._began: list[datetime] = []

    @property
    def horizon(self) -> datetime | None:
        """When the oldest work began that went on when `gather` asked; None if there was none."""
        return min(self._began, default=None)

    async def gather(self) -> AsyncIterator[tuple[str, set[bytes]]]:
        """Yield projects and the digests, 32 bytes each, of all that they refer to; some of them several times.

        The project is empty for what belongs to none, or does not say to which.

        Raises:
            EngineFailure: INFRASTRUCTURE if a service does not answer, INPUT_UNAVAILABLE if an index is lost.
        """
        self._began = []
        if own := await oldest_work(self._database):
            self._began.append(own)
        # The others first: what a task has made is registered here before the task can go there.
        for service in others("registry"):
            async for part in self._of(service):
                yield part
        yield "", await self._timings()
        async for part in references(self._database, _INVENTORY):
            yield part
        for row in await self._database.fetch(_UPLOADS, UPLOAD_STATE_ABORTED):
            yield row["project"], {*digests_in(row["sha256"]), *digests_in(row["wanted_sha256"])}
        indexes: set[str] = set()
        async for project, index, contents in self._items():
            indexes.add(index)
            yield project, contents
        archives = await self._database.fetch(_ARCHIVES)
        yield "", {bytes.fromhex(row["sha256"]) for row in archives if row["index_sha256"] in indexes}

    async def _of(self, service: str) -> AsyncIterator[tuple[str, set[bytes]]]:
        stub = ReferenceServiceStub(self._platform.channel(service))
        try:
            async for part in stub.ListReferences(ListReferencesRequest()):
                if part.HasField("oldest_work"):
                    self._began.append(part.oldest_work.ToDatetime(tzinfo=UTC))
                joined = part.sha256s
                yield part.project, {joined[start : start + 32] for start in range(0, len(joined), 32)}
        except grpc.aio.AioRpcError as error:
            raise EngineFailure(
                FailureReason.INFRASTRUCTURE,
                f"The {service} does not say what it refers to, so nothing may be removed: "
                f"{from_rpc_error(error).message}",
                suggested_fix=f"See that the {service} runs, and in its log, then start again.",
                retryable=True,
            ) from error

    async def _timings(self) -> set[bytes]:
        bucket = await self._platform.bus.js.key_value(TIMINGS)
        try:
            keys = await bucket.keys()
        except NoKeysError:
            return set()
        values = [(await bucket.get(key)).value or b"" for key in keys]
        return {digest for value in values for digest in digests_in(value)}

    async def _items(self) -> AsyncIterator[tuple[str, str, set[bytes]]]:
        """Yield the project and the index of each dataset, with the contents of its items, part by part."""
        after = ""
        while rows := await self._database.fetch(_DATASETS, after):
            after = rows[-1]["name"]
            for row in rows:
                index = Dataset.FromString(row["body"]).index
                if index.sha256:
                    for part in await self._contents(row["name"], index):
                        yield row["project"], index.sha256, part

    async def _contents(self, dataset: str, index: Digest) -> list[set[bytes]]:
        try:
            return await self._indexes.read(index, _read)
        except LatheError as error:
            raise EngineFailure(
                FailureReason.INPUT_UNAVAILABLE,
                f"The index of '{dataset}' cannot be read, so nothing may be removed: {error.message}",
                suggested_fix=f"Restore the index from a backup, or delete '{dataset}', then start again.",
                retryable=True,
            ) from error


def _read(path: Path) -> list[set[bytes]]:
    # In the thread, when first asked for: it loads Arrow.
    from engines.datasets import index

    contents = (bytes.fromhex(sha256) for sha256, _ in index.contents(path))
    return list(_chunks(contents))


def _chunks(digests: Iterator[bytes]) -> Iterator[set[bytes]]:
    while part := set(islice(digests, _CHUNK)):
        yield part
