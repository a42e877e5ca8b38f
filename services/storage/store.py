"""The port through which the services store and read bytes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Protocol

import grpc
from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError

__all__ = ["ContentStore", "corrupt", "missing"]


class ContentStore(Protocol):
    """Immutable bytes, each named by SHA-256 and size.

    What nothing refers to is collected a grace (LATHE_GC_GRACE_HOURS) after it was last stored, found or sent again. So
    that is the time in which a caller has to write down that it refers to bytes.
    """

    async def exists(self, digest: Digest) -> bool:
        """Return whether bytes with this digest, in this size, are stored; if so, they stay for a grace from now."""
        ...

    async def find(self, sha256: str) -> Digest | None:
        """Return the digest of stored bytes of which only the SHA-256 is known, or None; they stay as with `exists`."""
        ...

    async def put_file(self, path: Path) -> Digest:
        """Store a file and return its digest; bytes that are stored already are not sent again."""
        ...

    async def put_bytes(self, data: bytes) -> Digest:
        """Store bytes and return their digest."""
        ...

    async def fetch(self, digest: Digest, path: Path) -> None:
        """Write stored bytes to a file, which appears only when size and SHA-256 are right. Folders are made.

        Raises:
            LatheError: NOT_FOUND; DATA_LOSS if the stored bytes do not have this digest.
        """
        ...

    async def read(self, digest: Digest) -> bytes:
        """Return stored bytes, verified; only for bytes that fit into memory. Raises as `fetch` does."""
        ...

    async def presigned_get(self, digest: Digest, file_name: str, expires: timedelta) -> str:
        """Return a URL from which anyone can read the bytes, ranges included, until it expires.

        Args:
            digest: Of the bytes.
            file_name: The name under which a browser saves them; empty for none.
            expires: How long the URL works, at most 7 days.
        """
        ...


def missing(digest: Digest) -> LatheError:
    """Return the error for bytes that are not stored."""
    name = f"artifacts/{digest.sha256}"
    message = f"No bytes with the digest {digest.sha256} are stored. Upload them first."
    return LatheError(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", message, resource=("artifact", name))


def corrupt(digest: Digest, found: Digest) -> LatheError:
    """Return the error for stored bytes that do not have the digest in their name."""
    message = (
        f"The store is damaged: the bytes under {digest.sha256} ({digest.size_bytes} bytes) have the digest "
        f"{found.sha256} ({found.size_bytes} bytes). Upload the file again."
    )
    return LatheError(grpc.StatusCode.DATA_LOSS, "CONTENT_CORRUPT", message)
