"""What makes two works equal: the key of a work, and of a work done in an environment."""

from __future__ import annotations

import hashlib

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message


def work_key(kind: str, device: str, work: Message) -> bytes:
    """Return what is equal for equal work: kind, device and the work message in its deterministic form."""
    packed = AnyMessage()
    packed.Pack(work, deterministic=True)
    digest = hashlib.sha256()
    for part in (kind.encode(), device.encode(), packed.type_url.encode(), packed.value):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def action_key(work_key: bytes, environment: str) -> bytes:
    """Return the key of the action cache: the same work, done by the same programs on the same kind of machine."""
    return hashlib.sha256(work_key + environment.encode()).digest()
