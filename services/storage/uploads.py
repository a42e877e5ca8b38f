"""Uploads: files of any size, sent by users straight to the S3 store, verified before they count.

    open → PUT each part to its URL → verify_and_commit        parts() says at any time what is still to be sent

The parts are a multipart upload of the object `staging/<upload id>`. Nothing about it is remembered but in the store,
so every process can serve every step. `verify_and_commit` puts the parts together and reads them back to compute the
SHA-256, while the store itself copies them to their place under the digest; the copy is a multipart upload too, and
only completed when the digest is right: until then nobody can see it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError, failed_precondition, invalid_argument, invalid_fields
from services.platform.settings import Settings
from services.storage.bucket import Bucket, is_missing
from services.storage.copying import PendingCopy
from services.storage.hashing import hash_bytes, hash_stream
from services.storage.parts import Span, spans
from services.storage.s3_store import content_key, stored_size

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

__all__ = ["StagedPart", "Uploads"]

STAGING = "staging/"
URL_LIFETIME = timedelta(hours=6)


@dataclass(frozen=True)
class StagedPart:
    """One part of an upload: where it lies in the file, whether it has arrived, and else the URL to PUT it to."""

    span: Span
    received: bool
    url: str


class Uploads:
    """Opens, continues, verifies and ends uploads. An upload is named by an id of the caller's choice."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = Bucket.of(settings)

    async def open(self, upload_id: str, size: int) -> list[StagedPart]:
        """Begin an upload of `size` bytes and return its parts, each with its URL."""
        if size:
            await self._bucket.run(lambda client, _: self._begin(client, _key(upload_id)))
        return await self.parts(upload_id, size)

    async def parts(self, upload_id: str, size: int) -> list[StagedPart]:
        """Return the parts of an open upload: those that have arrived, and a fresh URL for each of the others."""
        multipart, arrived = await self._bucket.run(lambda client, _: self._progress(client, upload_id, size))
        waiting = [span for span in spans(size) if span.number not in arrived]
        base = {"Key": _key(upload_id), "UploadId": multipart}
        # The size is part of the signature: the store refuses a part of another size.
        parameters = [base | {"PartNumber": span.number, "ContentLength": span.size} for span in waiting]
        urls = await self._bucket.presign_all("upload_part", URL_LIFETIME, parameters) if multipart else []
        url_of = {span.number: url for span, url in zip(waiting, urls, strict=False)}
        return [StagedPart(span, span.number in arrived, url_of.get(span.number, "")) for span in spans(size)]

    async def verify_and_commit(self, upload_id: str, size: int, digest: Digest) -> None:
        """Store what has arrived under its digest, if it is what the digest says.

        After a mismatch nothing is stored under the digest. The upload can be committed again with another digest, or
        its parts sent again first. A repeat after success does nothing.

        Raises:
            LatheError: INVALID_ARGUMENT with reason SIZE_MISMATCH or DIGEST_MISMATCH; FAILED_PRECONDITION with reason
                UPLOAD_INCOMPLETE, naming the parts that are missing.
        """
        if digest.size_bytes != size:
            raise invalid_argument(
                "digest.size_bytes",
                f"The upload was opened for {size} bytes, the digest says {digest.size_bytes}. "
                "Open another upload if the file has changed.",
                reason="SIZE_MISMATCH",
            )
        if size == 0:
            await self._commit_nothing(digest)
        elif await self._bucket.run(lambda client, _: self._assemble(client, upload_id, digest)):
            await self._verify(upload_id, digest)

    async def abort(self, upload_id: str) -> None:
        """Give up an upload and remove what has arrived. Giving up twice is no error."""
        await self._bucket.run(lambda client, _: self._discard(client, _key(upload_id)))

    async def sweep(self, older_than: timedelta) -> int:
        """Remove what uploads and interrupted copies have left behind for longer than this; return how much it was."""
        return await self._bucket.run(lambda client, _: self._sweep(client, datetime.now(UTC) - older_than))

    def _begin(self, client: S3Client, key: str) -> str:
        return client.create_multipart_upload(Bucket=self._bucket.name, Key=key)["UploadId"]

    def _multiparts(self, client: S3Client, prefix: str) -> Iterator[Any]:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket.name, Prefix=prefix)
        for page in pages:
            yield from page.get("Uploads", [])

    def _multipart(self, client: S3Client, key: str) -> str:
        """Return the id of the open multipart upload of a key, the oldest if there are several; empty without one."""
        found = [(each["Initiated"], each["UploadId"]) for each in self._multiparts(client, key) if each["Key"] == key]
        return min(found)[1] if found else ""

    def _arrived(self, client: S3Client, key: str, multipart: str, size: int) -> dict[int, str]:
        """Return number → ETag of the parts that have arrived in their right size.

        Of a part that was sent twice, some stores list both. The last one counts. Times are of whole seconds: a part of
        which two with different bytes came in the last one has to be sent again.
        """
        if not multipart:
            return {}
        expected = {span.number: span.size for span in spans(size)}
        pages = client.get_paginator("list_parts").paginate(Bucket=self._bucket.name, Key=key, UploadId=multipart)
        parts: list[Any] = [part for page in pages for part in page.get("Parts", [])]
        sent: defaultdict[int, defaultdict[datetime, set[str]]] = defaultdict(lambda: defaultdict(set))
        for part in parts:
            if expected.get(part["PartNumber"]) == part["Size"]:
                sent[part["PartNumber"]][part["LastModified"]].add(part["ETag"])
        last = {number: etags[max(etags)] for number, etags in sent.items()}
        return {number: next(iter(etags)) for number, etags in last.items() if len(etags) == 1}

    def _progress(self, client: S3Client, upload_id: str, size: int) -> tuple[str, set[int]]:
        key = _key(upload_id)
        multipart = self._multipart(client, key)
        if not multipart and size:  # put together already, by a commit that was interrupted
            return "", {span.number for span in spans(size)}
        return multipart, set(self._arrived(client, key, multipart, size))

    def _assemble(self, client: S3Client, upload_id: str, digest: Digest) -> bool:
        """Make one object of the parts; return whether there is one to verify (false: it was committed before)."""
        key, size, bucket = _key(upload_id), digest.size_bytes, self._bucket.name
        multipart = self._multipart(client, key)
        arrived = self._arrived(client, key, multipart, size)
        missing = [span.number for span in spans(size) if span.number not in arrived]
        if not missing:
            parts: Any = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(arrived.items())]
            client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=multipart, MultipartUpload={"Parts": parts}
            )
            return True
        if not arrived and stored_size(client, bucket, key) == size:
            return True  # what an earlier commit put together, and perhaps found wrong
        if not multipart and stored_size(client, bucket, content_key(digest)) == size:
            return False
        raise failed_precondition(
            "UPLOAD_INCOMPLETE",
            f"{len(missing)} of {len(spans(size))} parts have not arrived in their full size: {_shortened(missing)}. "
            "Send them to the URLs that GetUpload returns, then finalize again. A part that arrived twice within a "
            "second with different bytes counts as missing.",
            subject=f"uploads/{upload_id}",
        )

    async def _verify(self, upload_id: str, digest: Digest) -> None:
        bucket, key = self._bucket, _key(upload_id)
        known = await bucket.run(lambda client, _: stored_size(client, bucket.name, content_key(digest)))
        copy = PendingCopy(bucket, key, content_key(digest), digest.size_bytes)
        async with copy:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(bucket.run(lambda client, stop: self._hash(client, key, stop)))
                if known != digest.size_bytes:
                    group.create_task(copy.transfer())
            found = reading.result()
            if found == digest:
                await copy.complete()
        if found != digest:
            await bucket.run(lambda client, _: self._multipart(client, key) or self._begin(client, key))
            raise _mismatch(found, digest)
        await self.abort(upload_id)

    def _hash(self, client: S3Client, key: str, stop: threading.Event) -> Digest:
        with client.get_object(Bucket=self._bucket.name, Key=key)["Body"] as body:
            return hash_stream(body, stop=stop)

    async def _commit_nothing(self, digest: Digest) -> None:
        empty = hash_bytes(b"")
        if digest != empty:
            raise _mismatch(empty, digest)
        key = content_key(empty)
        await self._bucket.run(lambda client, _: client.put_object(Bucket=self._bucket.name, Key=key, Body=b""))

    def _discard(self, client: S3Client, key: str) -> None:
        for each in list(self._multiparts(client, key)):
            if each["Key"] == key:
                self._abort(client, each)
        client.delete_object(Bucket=self._bucket.name, Key=key)

    def _abort(self, client: S3Client, multipart: Any) -> None:
        with _gone_is_fine():
            client.abort_multipart_upload(
                Bucket=self._bucket.name, Key=multipart["Key"], UploadId=multipart["UploadId"]
            )

    def _sweep(self, client: S3Client, before: datetime) -> int:
        count = 0
        for each in list(self._multiparts(client, "")):
            if each["Initiated"] < before:
                self._abort(client, each)
                count += 1
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket.name, Prefix=STAGING):
            for item in page.get("Contents", []):
                if item["LastModified"] < before:
                    client.delete_object(Bucket=self._bucket.name, Key=item["Key"])
                    count += 1
        return count


def _key(upload_id: str) -> str:
    return STAGING + upload_id


def _mismatch(found: Digest, expected: Digest) -> LatheError:
    return invalid_fields(
        [
            (
                "digest.sha256",
                f"What arrived has the SHA-256 {found.sha256} ({found.size_bytes} bytes), expected was "
                f"{expected.sha256} ({expected.size_bytes} bytes), so nothing was stored. "
                "Finalize again with the right digest, or send the parts again to the URLs that GetUpload returns.",
            )
        ],
        reason="DIGEST_MISMATCH",
    )


def _shortened(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (" …" if len(numbers) > 10 else "")


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if not is_missing(error):
            raise
