"""The bytes of results, which the members of a task's project may read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.message import Message
from lathe.internal.v1.registry_service_pb2 import UseArtifactsRequest
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub
from lathe.type.v1.digest_pb2 import Digest

_AT_ONCE = 1000


class Results:
    """Tells the registry what belongs to whom: it knows the files of versions and datasets, and not what tasks made."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        self._registry = RegistryServiceStub(registry)

    async def keep(self, made: Any, result: Message) -> None:
        """Let the members of a project read what something of theirs was asked to use, and what it made. Idempotent.

        Args:
            made: A task or a comparison, with its `name` and `project`.
            result: The message that names the bytes by their digests.
        """
        digests = {each.sha256: each for each in (*digests_in(made), *digests_in(result)) if each.sha256}
        whole = list(digests.values())
        for start in range(0, len(whole), _AT_ONCE):
            part = whole[start : start + _AT_ONCE]
            await self._registry.UseArtifacts(
                UseArtifactsRequest(project=made.project, resource=made.name, digests=part)
            )


def digests_in(message: Message) -> Iterator[Digest]:
    """Yield every digest of a message, however deep."""
    if isinstance(message, Digest):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        inner: Iterable[Any] = value if field.is_repeated else (value,)
        if field.message_type.GetOptions().map_entry:
            holds_messages = field.message_type.fields_by_name["value"].message_type is not None
            inner = value.values() if holds_messages else ()
        for each in inner:
            yield from digests_in(each)
