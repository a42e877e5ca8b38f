"""Claims on stored bytes: whoever finds bytes stored, and goes on to refer to them, keeps them from being collected.

Collecting looks first for references, which takes a while, and then removes what has none. A writer who finds the same
bytes stored already does not send them again, and refers to them a moment later. So finding them is a claim:

    bytes younger than FRESH    are as good as claimed: what is collected is older than a grace
    else a claim                an empty object `cas/claims/<xx>/<sha256>` is written anew; it holds for a grace

Collecting (`removal.py`) and claiming may meet at one blob. Before it looks at claims for the last time, collecting
closes a gate, an object `cas/gates/<xx>/<id>`, where xx are the first digits of what it removes, and opens it when it
is done. Whoever claims writes the claim first and looks at the gate afterwards:

    collect   gate · claim? age? · remove the bytes · open
    claim     write the claim · gate? · is the claim still there? · are the bytes?

If the gate was closed and opened before the claimer looked, the last two questions tell what was removed. If it closes
later, the collector sees the claim.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import unavailable
from services.storage.bucket import Bucket
from services.storage.hashing import hash_bytes
from services.storage.keys import claim_key, content_key, gates_of

__all__ = ["FRESH", "GATE_LIFETIME", "Claims"]

FRESH = timedelta(hours=1)
"""For how long a claim, or new bytes, are not claimed again. A grace is longer by as much as a writer may take."""
GATE_LIFETIME = timedelta(minutes=15)
"""After which a gate that nobody opened is one that a process left behind."""
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_MOST_REMEMBERED = 100_000
_NOTHING = hash_bytes(b"")


class Claims:
    """Claims bytes of one bucket; thread-safe. All of it blocks."""

    def __init__(self, bucket: Bucket, fresh: timedelta = FRESH) -> None:
        """Claim what is older than `fresh`, and again after that time."""
        self._bucket = bucket
        self._fresh = fresh.total_seconds()
        self._lock = threading.Lock()
        # SHA-256 → when this process claimed it.
        self._claimed: dict[str, float] = {}

    def take(self, digest: Digest) -> bool:
        """Return whether bytes with this digest, in this size, are stored; if so, they stay for a grace from now.

        Raises:
            LatheError: UNAVAILABLE, if they are being collected and it takes too long to see the end of it.
            minio.error.MinioException, urllib3.exceptions.HTTPError: As `Bucket.run`.
        """
        key = content_key(digest)
        found = self._bucket.stat(key)
        if found is None or found.size != digest.size_bytes:
            return False
        if found.age < self._fresh or self._claimed_lately(digest.sha256):
            return True
        began = time.monotonic()
        while not self._claim(digest.sha256):
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise unavailable(
                    "object store",
                    "What nobody refers to is being removed from the object store, and these bytes may be among it. "
                    "Try again in a minute.",
                )
            time.sleep(_PAUSE_SECONDS)
        self._remember(digest.sha256, began)
        return self._bucket.size(key) == digest.size_bytes

    def _claim(self, sha256: str) -> bool:
        """Write a claim, and return whether it holds: false while a gate is closed, or if it was just swept away."""
        self._bucket.put(claim_key(sha256), b"", _NOTHING)
        gates = (self._bucket.stat(str(each.object_name)) for each in self._bucket.objects(gates_of(sha256)))
        if any(gate is not None and gate.age < GATE_LIFETIME.total_seconds() for gate in gates):
            return False
        return self._bucket.stat(claim_key(sha256)) is not None

    def _claimed_lately(self, sha256: str) -> bool:
        with self._lock:
            at = self._claimed.get(sha256)
            return at is not None and time.monotonic() - at < self._fresh

    def _remember(self, sha256: str, at: float) -> None:
        with self._lock:
            if len(self._claimed) >= _MOST_REMEMBERED:
                self._claimed.clear()
            self._claimed[sha256] = at
