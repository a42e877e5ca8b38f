"""MinIO's client, tuned: its pool of connections, its credentials, and streams as the files that it reads."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from services.storage.hashing import BLOCK_BYTES
from services.storage.signing import Signer

if TYPE_CHECKING:
    import urllib3
    from minio import Minio

CONNECTIONS = 16
_TIMEOUT_SECONDS = 60


def pool(
    ca_file: Path | None, repeats: int, *, pause: float = 0.0, statuses: Collection[int] = ()
) -> urllib3.PoolManager:
    """Return connections to a store.

    Args:
        ca_file: Certificates that are trusted beside those of the machine.
        repeats: How often a request is sent again that had no answer; the last answer is returned, whatever it says.
        pause: Before the second repeat, in seconds; twice as long before each that follows.
        statuses: Those of answers that are asked for again.
    """
    import certifi
    import urllib3

    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5, read=_TIMEOUT_SECONDS),
        maxsize=CONNECTIONS,
        blocksize=BLOCK_BYTES,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        ca_cert_data=ca_file.read_text(encoding="ascii") if ca_file else None,
        retries=urllib3.Retry(repeats, backoff_factor=pause / 2, status_forcelist=statuses, raise_on_status=False),
    )


def connect(endpoint: str, signer: Signer, http: urllib3.PoolManager) -> Minio:
    """Return a client of the store at an endpoint, with the credentials of a signer."""
    from minio import Minio

    address = urlsplit(endpoint)
    return Minio(
        address.netloc,
        access_key=signer.access_key,
        secret_key=signer.secret_key,
        region=signer.region,
        secure=address.scheme == "https",
        http_client=http,
    )


class Reader:
    """Blocks as a file, for the client."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end."""
        got = [self._rest]
        count = len(self._rest)
        while count < size and (block := next(self._blocks, b"")):
            got.append(block)
            count += len(block)
        joined = b"".join(got)
        self._rest = joined[size:]
        return joined[:size]
