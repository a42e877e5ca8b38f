"""What builders have timed, kept from one task of an owner to the next.

The bytes come from a process that ran a stranger's model. So only tasks of the same owner begin with them, and of those
only tasks whose outcome is for that owner alone. A failure costs a warning, and the next task some time.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import structlog
from lathe.internal.v1.timings_pb2 import KeptTimings
from lathe.type.v1.digest_pb2 import Digest
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from engines.runtimes.timings import TIMINGS as FOLDER
from engines.runtimes.timings import given_name, kept_name
from services.bus.connection import Bus
from services.bus.topology import TIMINGS
from services.tasks.worker.blobs import Blobs

log = structlog.get_logger(__name__)

MOST_BYTES = 64 << 20
"""Bytes that an owner's timings of one runtime on one device may have."""
MOST_FILES = 4
PATIENCE_SECONDS = 30.0
_TRIES = 5


class Timings:
    """Lends a task what is kept of its owner, and keeps what the task has timed.

    Args:
        bus: The connection.
        blobs: Where the bytes are.
        device: Device that the worker serves.
        runtimes: Versions of the device's runtimes that keep timings, by name.
    """

    def __init__(self, bus: Bus, blobs: Blobs, device: str, runtimes: Mapping[str, str]) -> None:
        self._bus = bus
        self._blobs = blobs
        self._device = device
        self._runtimes = runtimes

    async def lend(self, owner: str, workdir: Path) -> Sequence[str]:
        """Put what is kept of an owner into a work directory.

        Returns the SHA-256 of each file that `keep` replaces: of those, and of files that the store does not give.
        """
        lent: list[str] = []

        async def fetch() -> None:
            bucket = await self._bus.js.key_value(TIMINGS)
            (workdir / FOLDER).mkdir(parents=True, exist_ok=True)
            for runtime in self._runtimes:
                files, _ = await _read(bucket, self._key(owner, runtime))
                number = 0
                for digest in files:
                    lent.append(digest.sha256)
                    try:
                        await self._blobs.fetch(digest, workdir / FOLDER / given_name(runtime, number))
                        number += 1
                    except Exception as error:
                        _warn("timings.not_lent", error)

        if owner and self._runtimes:
            await _tried("timings.not_lent", fetch)
        return lent

    async def keep(self, owner: str, workdir: Path, lent: Collection[str]) -> None:
        """Keep what a task has left in its work directory in place of what was lent to it."""

        async def store() -> None:
            bucket = await self._bus.js.key_value(TIMINGS)
            for runtime in self._runtimes:
                data = await asyncio.to_thread(_left, workdir, kept_name(runtime))
                if data is None:
                    continue
                # What has grown too large begins anew.
                made = [await self._blobs.put_bytes(data)] if len(data) <= MOST_BYTES else []
                await _replace(bucket, self._key(owner, runtime), lent, made)

        if owner and self._runtimes:
            await _tried("timings.not_kept", store)

    def _key(self, owner: str, runtime: str) -> str:
        version = re.sub(r"[^0-9A-Za-z_-]", "-", self._runtimes[runtime]) or "unknown"
        return f"{owner}.{self._device}.{runtime}.{version}"


async def _tried(event: str, action: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await action()
    except Exception as error:
        _warn(event, error)


def _warn(event: str, error: Exception) -> None:
    log.warning(event, error=str(error) or type(error).__name__)


async def _read(bucket: KeyValue, key: str) -> tuple[Sequence[Digest], int]:
    """Return the files of a key, and its revision; none, and 0, if there is no such key."""
    try:
        entry = await bucket.get(key)
    except KeyNotFoundError:
        return (), 0
    return KeptTimings.FromString(entry.value or b"").files, entry.revision or 0


async def _replace(bucket: KeyValue, key: str, lent: Collection[str], made: Sequence[Digest]) -> None:
    """Replace what was lent by what was made of it. What other tasks have kept meanwhile stays, as far as it fits.

    Raises:
        KeyWrongLastSequenceError: Other tasks were faster every time.
    """
    for tries in range(1, _TRIES + 1):
        found, revision = await _read(bucket, key)
        gone = {*lent, *(digest.sha256 for digest in made)}
        files = _bounded([*made, *(digest for digest in found if digest.sha256 not in gone)])
        value = KeptTimings(files=files).SerializeToString()
        try:
            await bucket.update(key, value, last=revision)
            return
        except KeyWrongLastSequenceError:
            if tries == _TRIES:
                raise


def _bounded(files: Sequence[Digest]) -> Sequence[Digest]:
    """Return the first files, as many as may be kept: the newest."""
    kept: list[Digest] = []
    for digest in files[:MOST_FILES]:
        if sum(each.size_bytes for each in kept) + digest.size_bytes > MOST_BYTES:
            break
        kept.append(digest)
    return kept


def _left(workdir: Path, name: str) -> bytes | None:
    """Return a file that untrusted code may have left, up to a byte more than may be kept; None if there is none.

    Raises:
        OSError: It is a link, or lies behind one.
    """
    try:
        folder = os.open(workdir / FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    finally:
        os.close(folder)
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(f"{name} is not a file.")
        return file.read(MOST_BYTES + 1)
