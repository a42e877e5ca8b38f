"""PUT requests that are signed together with the digest of their bytes, and the probe of a store that gets them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

from lathe.type.v1.digest_pb2 import Digest

from services.storage.hashing import hash_bytes

__all__ = ["PUT_LIFETIME", "SignedPut", "Signer", "find_guard"]

PUT_LIFETIME = timedelta(minutes=15)
"""How long a store accepts a request that is signed by headers."""
Guard = tuple[str, ...]
# With these headers, MinIO (as of 2025) makes another request of a signed PUT, although they are not signed: it copies
# another object, unpacks an archive over any key, or encrypts the bytes with a key that only the uploader has. Stores
# that follow AWS refuse unsigned headers of this kind.
_DANGEROUS: Guard = (
    "x-amz-copy-source",
    "x-amz-meta-snowball-auto-extract",
    "x-amz-server-side-encryption-customer-algorithm",
)


@dataclass(frozen=True)
class SignedPut:
    """A PUT whose bytes and headers are signed."""

    url: str
    headers: dict[str, str]
    expire_time: datetime


@dataclass(frozen=True)
class Signer:
    """Signs requests to one bucket."""

    bucket: str
    region: str
    access_key: str
    secret_key: str

    def put(self, endpoint: str, key: str, digest: Digest, guard: Guard = (), *, only_new: bool = False) -> SignedPut:
        """Sign a PUT of the bytes with this digest.

        Args:
            endpoint: URL of the store.
            key: Where the bytes go.
            digest: Of the bytes.
            guard: Headers that nobody may add. They are signed as empty parameters of the query, where MinIO looks for
                signed headers that a request does not have.
            only_new: Makes the store refuse with 412 if the key is taken.
        """
        from minio.credentials.credentials import Credentials
        from minio.signer import sign_v4_s3
        from minio.time import to_amz_date

        query = urlencode(dict.fromkeys(guard, ""))
        url = urlsplit(f"{endpoint}/{self.bucket}/{key}" + (f"?{query}" if query else ""))
        now = datetime.now(UTC)
        headers: dict[str, str | list[str] | tuple[str]] = {
            "Host": url.netloc,
            "Content-Length": str(digest.size_bytes),
            "Content-Type": "application/octet-stream",
            "x-amz-content-sha256": digest.sha256,
            # SeaweedFS verifies this header, and not the one above.
            "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(digest.sha256)).decode(),
            "x-amz-date": to_amz_date(now),
            **({"If-None-Match": "*"} if only_new else {}),
            **dict.fromkeys(guard, ""),
        }
        signed = sign_v4_s3(
            method="PUT",
            url=url,
            region=self.region,
            headers=headers,
            credentials=Credentials(self.access_key, self.secret_key),
            content_sha256=digest.sha256,
            date=now,
        )
        sent = {name: str(value) for name, value in signed.items() if name not in guard}
        return SignedPut(url.geturl(), sent, now + PUT_LIFETIME)


def find_guard(signer: Signer, endpoint: str, folder: str, send: Callable[[SignedPut, bytes], int]) -> Guard | None:
    """Try out a store: return the guard with which it takes signed bytes and no others, or None if it takes others.

    Args:
        signer: Signs the requests.
        endpoint: URL of the store.
        folder: Where to try; the caller removes what is stored there.
        send: Sends a request with a body and returns the status.
    """
    guards: tuple[Guard, ...] = ((), _DANGEROUS)
    tries = ((guard, f"{folder}/{number}") for number, guard in enumerate(guards))
    return next((guard for guard, inside in tries if _holds(signer, endpoint, inside, send, guard)), None)


def _holds(signer: Signer, endpoint: str, folder: str, send: Callable[[SignedPut, bytes], int], guard: Guard) -> bool:
    right, wrong = b"right", b"wrong"
    if send(signer.put(endpoint, f"{folder}/wrong", hash_bytes(wrong)), wrong) != 200:
        return False
    request = signer.put(endpoint, f"{folder}/right", hash_bytes(right), guard, only_new=True)
    copying = replace(request, headers={**request.headers, "x-amz-copy-source": f"/{signer.bucket}/{folder}/wrong"})
    return (
        send(request, wrong) >= 400
        and send(copying, right) == 403
        and send(request, right) == 200
        and send(request, right) == 412
    )
