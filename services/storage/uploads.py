"""Uploads: files of any size, sent by users straight to the S3 store, verified before they count.

There are two ways for a file to get its name:

    direct → PUT the file   → verify_and_commit    the store itself refuses bytes of another digest
    open   → PUT the parts  → verify_and_commit    parts() says at any time what is still to be sent

Whoever may know that the bytes are stored sends the whole file to its name, and the store says whether that is taken.
Anybody else sends it to a key below `staging/<upload id>/`, from where the store copies it: the request brings these
bytes or none, and its answer tells nothing of what others have stored.

Each part is an object below `staging/<upload id>/`. The store alone remembers which have arrived, so that every process
can serve every step. A part can be replaced for as long as its URL is valid, even while it is verified. Therefore
parts are not copied inside the store to the file's name: `verify_and_commit` sends on what it has read itself, and
keeps back the last bytes until the digest of all is known.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError, failed_precondition, invalid_argument, invalid_fields
from services.platform.settings import Settings
from services.storage.bucket import Bucket
from services.storage.claims import Claims
from services.storage.copying import copy
from services.storage.hashing import BLOCK_BYTES, Cancelled, WrongBytes, ahead, checked, hash_bytes
from services.storage.keys import STAGING, content_key
from services.storage.parts import Span, StagedPart, spans
from services.storage.precedence import Precedence
from services.storage.signing import SignedPut

if TYPE_CHECKING:
    from minio import Minio

__all__ = ["LARGE_AT_ONCE", "SMALL_BYTES", "Uploads"]

URL_LIFETIME = timedelta(hours=6)
# Files up to this size do not wait for larger ones, which may use half of the processors.
SMALL_BYTES = 16 << 20
_SMALL_AT_ONCE = 4
LARGE_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
OnBytes = Callable[[int], None]


class Uploads:
    """Opens, continues, verifies and ends uploads. An upload is named by an id of the caller's choice.

    Attributes:
        precedence: What goes before the verification of large files in this process.
    """

    def __init__(self, settings: Settings) -> None:
        self._bucket = Bucket.of(settings)
        self._claims = Claims(self._bucket)
        self._small = asyncio.Semaphore(_SMALL_AT_ONCE)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self.precedence = Precedence()

    async def direct(self, upload_id: str, digest: Digest, *, known: bool = True) -> SignedPut | None:
        """Return a request that sends the whole file at once, or None if the store cannot be trusted.

        Args:
            upload_id: The upload.
            digest: What the bytes must be.
            known: Whether the sender may know that they are stored already. If so, they go to their name.
        """
        return await self._bucket.signed_put(content_key(digest) if known else _whole_key(upload_id, digest), digest)

    async def open(self, upload_id: str, size: int) -> list[StagedPart]:
        """Return the parts of a new upload of `size` bytes, each with its URL."""
        return await self._shown(upload_id, size, _Round(1, {}))

    async def parts(self, upload_id: str, size: int) -> list[StagedPart]:
        """Return the parts of an open upload: those that have arrived, and a fresh URL for each of the others."""
        rounds = await self._bucket.run(lambda *_: self._rounds(upload_id))
        return await self._shown(upload_id, size, rounds[-1])

    async def must_store(self, upload_id: str, size: int, digest: Digest, *, unsent: bool = True) -> bool:
        """Return whether `verify_and_commit` has to read or copy what has arrived. Raises what that raises before."""
        _require_size(size, digest)
        return await self._bucket.run(lambda *_: self._complete(upload_id, digest, unsent)) is not None

    async def verify_and_commit(
        self,
        upload_id: str,
        size: int,
        digest: Digest,
        on_bytes: OnBytes = lambda _count: None,
        *,
        unsent: bool = True,
    ) -> None:
        """Store what has arrived under its digest, if it is what the digest says.

        After a mismatch nothing is stored under the digest. The upload can be committed again with another digest, or
        its parts sent again first. What has arrived stays, as a repeat needs it, until `abort`.

        Args:
            upload_id: The upload.
            size: What it was opened for.
            digest: What the bytes must be.
            on_bytes: Called in another thread with the number of bytes that were read, again and again.
            unsent: Whether bytes that are stored already need not have been sent by this upload; otherwise it is as if
                they were not there.

        Raises:
            LatheError: INVALID_ARGUMENT with reason SIZE_MISMATCH or DIGEST_MISMATCH; FAILED_PRECONDITION with reason
                UPLOAD_INCOMPLETE, naming the parts that are missing.
        """
        _require_size(size, digest)
        if size == 0 and digest != hash_bytes(b""):
            raise _mismatch(hash_bytes(b""), digest)
        complete = await self._bucket.run(lambda *_: self._complete(upload_id, digest, unsent))
        if complete is None:
            return
        if complete is _WHOLE:
            await self._bucket.run(lambda client, _: self._place(client, upload_id, digest))
            on_bytes(size)
            return
        async with self._small if size <= SMALL_BYTES else self._large:
            try:
                keys = [_key(upload_id, complete.number, span.number) for span in spans(size)]
                await self._bucket.run(lambda _, stop: self._commit(stop, keys, digest, on_bytes))
            except WrongBytes as error:
                await self._bucket.run(lambda *_: self._begin_again(upload_id, complete))
                raise _mismatch(error.found, digest) from None

    async def abort(self, upload_id: str) -> None:
        """Remove what has arrived of an upload. Doing it twice is no error. A PUT that comes later is swept."""
        await self._bucket.run(lambda client, _: self._remove(client, f"{STAGING}{upload_id}/"))

    async def sweep(self, older_than: timedelta) -> int:
        """Remove what uploads have left behind for longer than this; return the number of objects."""
        before = datetime.now(UTC) - older_than
        return await self._bucket.run(lambda client, _: self._remove(client, STAGING, before))

    async def _shown(self, upload_id: str, size: int, arrived: _Round) -> list[StagedPart]:
        waiting = [span for span in spans(size) if not arrived.has(span)]
        keys = [_key(upload_id, arrived.number, span.number) for span in waiting]
        urls = await self._bucket.presign("PUT", keys, URL_LIFETIME, {})
        url_of = {span.number: url for span, url in zip(waiting, urls, strict=True)}
        return [StagedPart(span, arrived.has(span), url_of.get(span.number, "")) for span in spans(size)]

    def _rounds(self, upload_id: str) -> list[_Round]:
        """Return what has arrived: the parts as first sent, then those of each round after a mismatch."""
        sizes: dict[int, dict[int, int]] = {1: {}}
        prefix = f"{STAGING}{upload_id}/"
        for each in self._bucket.objects(prefix):
            key = str(each.object_name).removeprefix(prefix)
            if key.startswith(_WHOLE_FILE):
                continue
            sent, part = map(int, key.split("/"))
            sizes.setdefault(sent, {})[part] = each.size or 0
        return [_Round(number, parts) for number, parts in sorted(sizes.items())]

    def _complete(self, upload_id: str, digest: Digest, unsent: bool) -> _Round | None:
        """Return the parts to verify, _WHOLE if the file came at once, or None if the bytes have their name already."""
        rounds = self._rounds(upload_id)
        if rounds[-1].sizes.keys() == {0}:
            rounds.pop()  # nothing was sent again after a mismatch: it was the digest that was wrong
        missing = [span.number for span in spans(digest.size_bytes) if not rounds[-1].has(span)]
        if not missing:
            return rounds[-1]
        if unsent and self._claims.take(digest):
            return None
        if self._bucket.size(_whole_key(upload_id, digest)) == digest.size_bytes:
            return _WHOLE
        raise failed_precondition(
            "UPLOAD_INCOMPLETE",
            f"{len(missing)} of {len(spans(digest.size_bytes))} parts have not arrived in their full size: "
            f"{_shortened(missing)}. Send them to the URLs that GetUpload returns, then finalize again.",
            subject=f"uploads/{upload_id}",
        )

    def _place(self, client: Minio, upload_id: str, digest: Digest) -> None:
        """Give a file that came at once its name, if its bytes do not have it yet."""
        if not self._claims.take(digest):
            copy(client, self._bucket.name, _whole_key(upload_id, digest), content_key(digest), digest.size_bytes)

    def _commit(self, stop: threading.Event, keys: list[str], digest: Digest, on_bytes: OnBytes) -> None:
        """Read the parts under `keys` one after the other, and store them as one object under their digest."""

        def sent() -> Iterator[bytes]:
            for key in keys:
                with self._bucket.client.get_object(self._bucket.name, key) as answer:
                    for block in answer.stream(BLOCK_BYTES, decode_content=False):
                        if stop.is_set():
                            raise Cancelled
                        if digest.size_bytes > SMALL_BYTES:
                            self.precedence.give_way()
                        yield block
                        on_bytes(len(block))
                    answer.release_conn()

        blocks = checked(ahead(sent()), digest)
        if self._claims.take(digest):
            for _ in blocks:
                pass
        elif digest.size_bytes <= SMALL_BYTES:
            self._bucket.put(content_key(digest), b"".join(blocks), digest)
        else:
            self._bucket.put(content_key(digest), blocks, digest)

    def _begin_again(self, upload_id: str, wrong: _Round) -> None:
        self._bucket.put(_key(upload_id, wrong.number + 1, 0), b"", hash_bytes(b""))

    def _remove(self, client: Minio, prefix: str, before: datetime | None = None) -> int:
        count = 0
        for each in list(self._bucket.objects(prefix)):
            if before is None or (each.last_modified and each.last_modified < before):
                client.remove_object(self._bucket.name, str(each.object_name))
                count += 1
        return count


@dataclass(frozen=True)
class _Round:
    """Parts that were sent for one attempt to commit: part number → size; number 0 only says that it has begun."""

    number: int
    sizes: dict[int, int]

    def has(self, span: Span) -> bool:
        return self.sizes.get(span.number) == span.size


_WHOLE = _Round(0, {})
_WHOLE_FILE = "whole/"


def _whole_key(upload_id: str, digest: Digest) -> str:
    """Return where a file is sent at once; its digest is in the key, as the store lets no other bytes get there."""
    return f"{STAGING}{upload_id}/{_WHOLE_FILE}{digest.sha256}"


def _key(upload_id: str, sent: int, part: int) -> str:
    return f"{STAGING}{upload_id}/{sent}/{part:05}"


def _require_size(size: int, digest: Digest) -> None:
    if digest.size_bytes != size:
        raise invalid_argument(
            "digest.size_bytes",
            f"The upload was opened for {size} bytes, the digest says {digest.size_bytes}. "
            "Open another upload if the file has changed.",
            reason="SIZE_MISMATCH",
        )


def _mismatch(found: Digest, expected: Digest) -> LatheError:
    return invalid_fields(
        [
            (
                "digest.sha256",
                f"The uploaded bytes have the SHA-256 {found.sha256} ({found.size_bytes} bytes), not "
                f"{expected.sha256} ({expected.size_bytes} bytes), so nothing was stored. "
                "Finalize again with the right digest, or send the parts again to the URLs that GetUpload returns.",
            )
        ],
        reason="DIGEST_MISMATCH",
    )


def _shortened(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (" …" if len(numbers) > 10 else "")
