"""Whether all that is referred to is stored as it was, and what is stored that nobody refers to."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from google.protobuf.message import Message
from lathe.registry.v1 import storage_service_pb2 as storage
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.operation_pb2 import OPERATION_STATE_RUNNING, OPERATION_STATE_SUCCEEDED, OperationState
from lathe_client.connection import Connection

from services.platform.settings import Settings
from services.platform.words import word
from services.storage.bucket import Bucket
from services.storage.keys import CONTENT

_COLLECTION_SECONDS = 60.0


class Stored(NamedTuple):
    """What is stored: digests of all blobs, and a sentence for each that holds other bytes."""

    blobs: set[str]
    spoilt: list[str]


def read_all(settings: Settings) -> Stored:
    """Read every blob, and compare it with its name."""
    bucket = Bucket.of(settings)

    def read(*_: Any) -> Stored:
        stored = Stored(set(), [])
        for entry in bucket.objects(CONTENT):
            key = str(entry.object_name)
            with bucket.client.get_object(bucket.name, key) as answer:
                data = answer.read()
            name = key.rpartition("/")[2]
            stored.blobs.add(name)
            if hashlib.sha256(data).hexdigest() != name:
                stored.spoilt.append(f"the blob {key} holds other bytes")
        return stored

    return asyncio.run(bucket.run(read))


def missing(stored: Stored, resources: Iterable[Message]) -> Iterator[str]:
    """Yield a sentence for each digest that a resource names and that is not stored."""
    named = {digest: getattr(each, "name", "") for each in resources for digest in digests(each)}
    for digest in sorted(named.keys() - stored.blobs):
        yield f"{named[digest]} names {digest}, which is not stored"


def digests(message: Message) -> Iterator[str]:
    """Yield the SHA-256 of every `Digest` in a message."""
    if isinstance(message, Digest):
        yield message.sha256
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            parts = [each for each in value.values() if isinstance(each, Message)]
        else:
            parts = value if field.is_repeated else [value]
        for each in parts:
            yield from digests(each)


def unreferred(connection: Connection, stored: Stored) -> tuple[int, list[str]]:
    """Return how many blobs nobody refers to, as a collection that changes nothing counts them, and what is wrong."""
    asked = storage.GarbageCollection(dry_run=True)
    found = connection.storage.CreateGarbageCollection(storage.CreateGarbageCollectionRequest(garbage_collection=asked))
    deadline = time.monotonic() + _COLLECTION_SECONDS
    while found.state == OPERATION_STATE_RUNNING and time.monotonic() < deadline:
        time.sleep(0.2)
        found = connection.storage.GetGarbageCollection(storage.GetGarbageCollectionRequest(name=found.name))
    if found.state != OPERATION_STATE_SUCCEEDED:
        return 0, [f"the collection of garbage is {word(OperationState, found.state)}: {found.failure.message}"]
    alone = found.waiting.files + found.removed.files
    if found.referred.files + alone != len(stored.blobs):
        return alone, [f"{found.referred.files} blobs are referred to and {alone} are not, of {len(stored.blobs)}"]
    return alone, []
