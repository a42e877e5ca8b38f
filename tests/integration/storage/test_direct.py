"""Files that are sent to their name at once: the store takes these bytes and no others."""

from __future__ import annotations

import base64
import hashlib
import io
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError
from services.platform.settings import Settings
from services.storage import S3ContentStore, Uploads, hash_bytes
from services.storage.bucket import Bucket
from services.storage.keys import content_key
from services.storage.signing import SignedPut
from tests.integration.storage.conftest import random_bytes

MIB = 1 << 20
UPLOAD = "0123"


async def put(request: SignedPut, data: bytes, **more: str) -> int:
    async with httpx.AsyncClient(timeout=60) as client:
        headers = [*request.headers.items(), *((name.replace("_", "-"), value) for name, value in more.items())]
        return (await client.put(request.url, content=data, headers=headers)).status_code


async def direct(uploads: Uploads, digest: Digest, *, known: bool = True) -> SignedPut:
    request = await uploads.direct(UPLOAD, digest, known=known)
    assert request is not None
    return request


@pytest.mark.parametrize("size", [1, 3000, 20 * MIB])
async def test_a_file_is_stored_by_one_request(uploads: Uploads, store: S3ContentStore, size: int) -> None:
    data = random_bytes(size)
    digest = hash_bytes(data)
    request = await direct(uploads, digest)
    assert await put(request, data) == 200
    assert await store.read(digest) == data
    assert await put(request, data) == 412
    await uploads.verify_and_commit(uuid.uuid4().hex, size, digest)
    with pytest.raises(LatheError, match="have not arrived"):
        await uploads.verify_and_commit(uuid.uuid4().hex, size, digest, unsent=False)


@pytest.mark.parametrize(("size", "stored"), [(1, False), (20 * MIB, False), (20 * MIB, True)])
async def test_who_may_not_know_what_is_stored_sends_it_beside(
    uploads: Uploads,
    store: S3ContentStore,
    keys: Callable[[str], Any],
    size: int,
    stored: bool,
) -> None:
    """And learns by no answer whether it was."""
    data, upload = random_bytes(size), uuid.uuid4().hex
    digest = hash_bytes(data)
    if stored:
        await store.put_bytes(data)
    request = await uploads.direct(upload, digest, known=False)
    assert request is not None
    with pytest.raises(LatheError, match="have not arrived"):
        await uploads.must_store(upload, size, digest, unsent=False)
    assert await put(request, bytes(size)) >= 400
    assert await put(request, data) == 200
    assert await uploads.must_store(upload, size, digest, unsent=False)
    for _ in range(2):  # a repeat
        await uploads.verify_and_commit(upload, size, digest, unsent=False)
    assert await store.read(digest) == data
    # Bytes of another digest have not come, and the file is no part.
    with pytest.raises(LatheError, match="have not arrived"):
        await uploads.verify_and_commit(upload, size, hash_bytes(random_bytes(size)), unsent=False)
    assert not any(part.received for part in await uploads.parts(upload, size))
    await uploads.abort(upload)
    assert await keys(f"staging/{upload}") == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [3000, 20 * MIB])
async def test_other_bytes_never_get_the_name(
    uploads: Uploads, store: S3ContentStore, keys: Callable[[str], Any], size: int, known: bool
) -> None:
    data, other = random_bytes(size), random_bytes(size)
    digest = hash_bytes(data)
    before = await keys("staging/")  # other tests may have left something
    request = await direct(uploads, digest, known=known)
    assert await put(request, other) >= 400
    assert not await store.exists(digest)
    assert await keys("staging/") == before
    assert await put(request, data) == 200
    assert await put(request, other) >= 400
    await uploads.verify_and_commit(UPLOAD, size, digest, unsent=known)
    assert await store.read(digest) == data
    await uploads.abort(UPLOAD)


async def test_no_header_that_is_added_makes_another_request_of_it(
    uploads: Uploads, store: S3ContentStore, bucket: Bucket
) -> None:
    data, other = random_bytes(1000), random_bytes(1000)
    digest = hash_bytes(data)
    key = f"staging/{uuid.uuid4().hex}/1/1"
    await bucket.run(lambda client, _: client.put_object(bucket.name, key, io.BytesIO(other), 1000))
    request = await direct(uploads, digest)
    sha256 = base64.b64encode(hashlib.sha256(other).digest()).decode()
    for more in (
        {"x_amz_copy_source": f"/{bucket.name}/{key}"},
        {"x_amz_checksum_sha256": sha256},
        {"x_amz_checksum_sha1": base64.b64encode(hashlib.sha1(other).digest()).decode()},
        {"x_amz_checksum_crc32": "AAAAAA=="},
        {"x_amz_sdk_checksum_algorithm": "CRC32"},
        {"x_amz_content_sha256": "UNSIGNED-PAYLOAD"},
        {"x_amz_trailer": "x-amz-checksum-crc32"},
        {"x_amz_meta_snowball_auto_extract": "true"},
        {"content_encoding": "aws-chunked"},
    ):
        assert await put(request, other, **more) >= 400, more
        assert not await store.exists(digest), more


async def test_no_uploader_locks_bytes_with_a_key_of_its_own(uploads: Uploads, store: S3ContentStore) -> None:
    data, key = random_bytes(1000), random_bytes(32)
    locked = {
        "x_amz_server_side_encryption_customer_algorithm": "AES256",
        "x_amz_server_side_encryption_customer_key": base64.b64encode(key).decode(),
        "x_amz_server_side_encryption_customer_key_md5": base64.b64encode(hashlib.md5(key).digest()).decode(),
    }
    assert await put(await direct(uploads, hash_bytes(data)), data, **locked) >= 400
    assert not await store.exists(hash_bytes(data))


async def test_an_encoding_that_an_uploader_claims_changes_no_bytes(uploads: Uploads, store: S3ContentStore) -> None:
    data = random_bytes(1000)
    assert await put(await direct(uploads, hash_bytes(data)), data, content_encoding="gzip") == 200
    assert await store.read(hash_bytes(data)) == data


async def test_what_cannot_be_trusted_to_one_request_is_not_offered_one(uploads: Uploads) -> None:
    empty = hashlib.sha256().hexdigest()
    assert await uploads.direct(UPLOAD, Digest(sha256=empty)) is None
    assert await uploads.direct(UPLOAD, Digest(sha256=empty, size_bytes=5)) is None
    assert await uploads.direct(UPLOAD, Digest(sha256="0" * 64, size_bytes=(5 << 30) + 1)) is None


async def test_the_probe_leaves_nothing(uploads: Uploads, keys: Callable[[str], Any]) -> None:
    await direct(uploads, hash_bytes(random_bytes(10)))
    assert await keys("staging/probe-") == []


async def test_a_store_that_cannot_be_probed_is_not_trusted_and_probed_again(
    storage_settings: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib3.exceptions import ProtocolError

    fresh = Bucket.of(storage_settings.model_copy(update={"s3_bucket": f"{bucket.name}-2"}))
    digest = hash_bytes(random_bytes(10))
    with monkeypatch.context() as patched:
        patched.setattr("services.storage.bucket.find_guard", lambda *_: (_ for _ in ()).throw(ProtocolError("away")))
        assert await fresh.signed_put(content_key(digest), digest) is None
    assert await fresh.signed_put(content_key(digest), digest) is not None
