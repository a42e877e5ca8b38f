"""Looking through the bucket, and removing from it what nobody refers to, beside writers that rely on it.

What is removed was decided by somebody who knows every reference. `Removal` adds what only the store knows: how old the
bytes are, and who has claimed them meanwhile. `claims.py` says why the two do not miss each other.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from lathe.type.v1.digest_pb2 import Digest

from services.storage.bucket import Bucket
from services.storage.claims import GATE_LIFETIME
from services.storage.hashing import hash_bytes
from services.storage.keys import CLAIMS, CONTENT, GATES, OWNERS, claim_key, content_key, gates_of

if TYPE_CHECKING:
    from minio.datatypes import Object

__all__ = ["PAGE", "Removal", "Stored"]

PAGE = 1000
_AT_ONCE = 8
# Well within the life of a gate: nothing is removed by a process that was stopped in between.
_LONGEST_SECONDS = GATE_LIFETIME.total_seconds() / 3
_NOTHING = hash_bytes(b"")


@dataclass(frozen=True)
class Stored:
    """Bytes in the bucket: their SHA-256 in hexadecimal digits, and their size."""

    sha256: str
    size: int


class Removal:
    """Lists and removes bytes of one bucket. All of it blocks."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def join(self, owner: str) -> list[str]:
        """Note that an installation uses the bucket, and return the ids of all that do."""
        self._bucket.put(f"{OWNERS}{owner}", b"", _NOTHING)
        return [str(each.object_name).removeprefix(OWNERS) for each in self._bucket.objects(OWNERS)]

    def pages(self) -> Iterator[list[Stored]]:
        """Yield all stored bytes in the order of their SHA-256, PAGE at a time."""
        found = iter(self._bucket.objects(CONTENT))
        while page := list(islice(found, PAGE)):
            yield [Stored(_name(each), each.size or 0) for each in page]

    def remove(self, sha256s: Collection[str], least_age: timedelta) -> set[str]:
        """Remove bytes that have been there and unclaimed for `least_age`; return what was removed.

        Args:
            sha256s: What nobody refers to, at most PAGE.
            least_age: Of the bytes and of every claim on them, by the store's clock.

        Raises:
            minio.error.MinioException, urllib3.exceptions.HTTPError: As `Bucket.run`. What was sent may come to effect
                later; until it has, nobody relies on these bytes, as the gate stays closed for its lifetime.
        """
        least = least_age.total_seconds()

        def remove(sha256: str) -> str | None:
            if time.monotonic() - began > _LONGEST_SECONDS:
                return None
            claim = self._bucket.stat(claim_key(sha256))
            if claim is not None and claim.age <= least:
                return None
            key = content_key(Digest(sha256=sha256))
            found = self._bucket.stat(key)
            if found is None or found.age <= least:
                return None
            self._bucket.remove_once(key)
            if claim is not None:
                self._bucket.remove_once(claim_key(sha256))
            return sha256

        began = time.monotonic()
        return self._behind_gates(remove, sha256s)

    def forget_claims(self, least_age: timedelta) -> int:
        """Remove claims that nobody has renewed for `least_age`, and gates that were left behind; return how many."""
        least = least_age.total_seconds()

        def remove(sha256: str) -> str | None:
            claim = self._bucket.stat(claim_key(sha256))
            if claim is None or claim.age <= least or time.monotonic() - began > _LONGEST_SECONDS:
                return None
            self._bucket.remove_once(claim_key(sha256))
            return sha256

        for gate in [str(each.object_name) for each in self._bucket.objects(GATES)]:
            left = self._bucket.stat(gate)
            if left is not None and left.age > 2 * GATE_LIFETIME.total_seconds():
                self._bucket.remove_once(gate)
        count, found = 0, iter(self._bucket.objects(CLAIMS))
        while page := list(islice(found, PAGE)):
            # By this machine's clock: which to look at, behind the gate, by the store's.
            before = datetime.now(UTC) - least_age
            old = [_name(each) for each in page if each.last_modified and each.last_modified <= before]
            began = time.monotonic()
            count += len(self._behind_gates(remove, old))
        return count

    def _behind_gates(self, remove: Callable[[str], str | None], sha256s: Collection[str]) -> set[str]:
        """Call `remove` for each, while the gates of all are closed; after an error they stay closed."""
        if not sha256s:
            return set()
        own = uuid.uuid4().hex
        gates = {f"{gates_of(sha256)}{own}" for sha256 in sha256s}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="remove") as threads:
            list(threads.map(lambda gate: self._bucket.put(gate, b"", _NOTHING), gates))
            removed = {sha256 for sha256 in threads.map(remove, sha256s) if sha256 is not None}
            list(threads.map(self._bucket.remove_once, gates))
        return removed


def _name(found: Object) -> str:
    return str(found.object_name).rpartition("/")[2]
