from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from lathe.type.v1.digest_pb2 import Digest
from minio import Minio

from services.platform.errors import LatheError
from services.platform.settings import Settings
from services.storage import ContentStore, MeteredStore, S3ContentStore, hash_bytes, hash_file
from services.storage.bucket import Bucket
from services.storage.keys import content_key
from tests.eventually import eventually
from tests.integration.storage.conftest import Hold, names_in, random_bytes
from tests.integration.storage.front import MINIO, front

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
async def test_bytes_come_back_as_they_went_in(store: S3ContentStore, tmp_path: Path, size: int) -> None:
    data = random_bytes(size)
    digest = await store.put_bytes(data)
    assert digest == hash_bytes(data)
    assert await store.exists(digest)
    assert await store.read(digest) == data
    await store.fetch(digest, tmp_path / "new" / "folder" / "file")
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == data


async def test_a_large_file_goes_in_parts(
    store: S3ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.storage.bucket.SINGLE_PUT_BYTES", 8 << 20)
    monkeypatch.setattr("services.storage.bucket.PART_BYTES", 5 << 20)
    path = tmp_path / "large"
    path.write_bytes(random_bytes(12 << 20))
    digest = await store.put_file(path)
    assert digest == hash_file(path)
    await store.fetch(digest, tmp_path / "back")
    assert hash_file(tmp_path / "back") == digest


async def test_what_is_there_is_not_sent_again(store: S3ContentStore, bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(random_bytes(1000))
    digest = await store.put_file(path)

    def modified(client: Minio, _stop: object) -> Any:
        return client.stat_object(bucket.name, content_key(digest)).last_modified

    before = await bucket.run(modified)
    await asyncio.sleep(1.1)
    await store.put_file(path)
    await store.put_bytes(path.read_bytes())
    assert await bucket.run(modified) == before


async def test_what_is_missing_is_not_found(store: S3ContentStore, tmp_path: Path) -> None:
    digest = hash_bytes(random_bytes(10))
    assert not await store.exists(digest)
    for attempt in (store.read(digest), store.fetch(digest, tmp_path / "x"), store.presigned_get(digest, "", HOUR)):
        with pytest.raises(LatheError, match=digest.sha256) as caught:
            await attempt
        assert caught.value.code.name == "NOT_FOUND"
    assert names_in(tmp_path) == set()


async def test_a_digest_of_another_size_does_not_exist(store: S3ContentStore) -> None:
    digest = await store.put_bytes(random_bytes(10))
    assert not await store.exists(Digest(sha256=digest.sha256, size_bytes=11))


async def test_damaged_bytes_are_never_handed_out(store: S3ContentStore, bucket: Bucket, tmp_path: Path) -> None:
    digest = await store.put_bytes(random_bytes(100))
    wrong = io.BytesIO(b"x" * 100)
    await bucket.run(lambda client, _: client.put_object(bucket.name, content_key(digest), wrong, 100))
    for attempt in (store.read(digest), store.fetch(digest, tmp_path / "x")):
        with pytest.raises(LatheError, match="damaged") as caught:
            await attempt
        assert caught.value.reason == "CONTENT_CORRUPT"
    assert names_in(tmp_path) == set()


async def test_a_presigned_url_reads_ranges_and_names_the_file(store: S3ContentStore) -> None:
    data = random_bytes(1000)
    url = await store.presigned_get(await store.put_bytes(data), 'größe "1".bin', HOUR)
    async with httpx.AsyncClient(timeout=60) as client:
        whole = await client.get(url)
        part = await client.get(url, headers={"range": "bytes=10-19"})
        changed = await client.get(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=9999"))
    assert whole.content == data
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22.bin"
    assert (part.status_code, part.content) == (206, data[10:20])
    assert changed.status_code == 403


async def test_urls_carry_the_public_address(storage_settings: Settings) -> None:
    public = storage_settings.model_copy(update={"s3_public_endpoint": "https://files.example.com:8443"})
    store = S3ContentStore(public)
    url = urlsplit(await store.presigned_get(await store.put_bytes(b"public"), "", HOUR))
    assert (url.scheme, url.netloc) == ("https", "files.example.com:8443")


async def test_a_missing_bucket_is_made(storage_settings: Settings) -> None:
    settings = storage_settings.model_copy(update={"s3_bucket": f"made-{hash_bytes(random_bytes(9)).sha256[:12]}"})
    digests = await asyncio.gather(*(S3ContentStore(settings).put_bytes(b"x") for _ in range(4)))
    assert await S3ContentStore(settings).exists(digests[0])


async def test_a_silent_store_is_an_error_and_not_absence(storage_settings: Settings) -> None:
    from urllib3.exceptions import MaxRetryError

    store = S3ContentStore(storage_settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"}))
    with pytest.raises(MaxRetryError):
        await store.exists(hash_bytes(b""))


async def test_wrong_credentials_are_an_error_and_not_absence(storage_settings: Settings) -> None:
    from minio.error import S3Error

    store = S3ContentStore(storage_settings.model_copy(update={"s3_access_key": "nobody"}))
    with pytest.raises(S3Error, match=r"InvalidAccessKeyId|AccessDenied"):
        await store.exists(hash_bytes(b""))


async def test_a_cancelled_fetch_leaves_nothing(
    store: S3ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = Hold()

    def held(blocks: Iterator[bytes]) -> Iterator[bytes]:
        yield next(blocks)
        hold()
        yield from blocks

    digest = await store.put_bytes(random_bytes(8 << 20))
    monkeypatch.setattr("services.storage.s3_store.ahead", held)
    fetch = asyncio.create_task(store.fetch(digest, tmp_path / "x"))
    await eventually(hold.begun.is_set)
    assert names_in(tmp_path)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    hold.over.set()
    await eventually(lambda: not names_in(tmp_path))


async def test_a_metered_store_is_a_store(store: S3ContentStore, tmp_path: Path) -> None:
    from prometheus_client import REGISTRY

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"lathe_storage_{name}", labels) or 0.0

    metered: ContentStore = MeteredStore(store)
    before = value("bytes_total", operation="put"), value("bytes_total", operation="fetch")
    data = random_bytes(1000)
    (tmp_path / "x").write_bytes(data)
    digest = await metered.put_bytes(data)
    assert await metered.put_file(tmp_path / "x") == digest
    assert await metered.exists(digest)
    assert await metered.read(digest) == data
    await metered.fetch(digest, tmp_path / "y")
    assert await metered.presigned_get(digest, "x", HOUR)
    assert value("bytes_total", operation="put") - before[0] == 2000
    assert value("bytes_total", operation="fetch") - before[1] == 2000
    failures = value("seconds_count", operation="fetch", outcome="not_found")
    with pytest.raises(LatheError):
        await metered.read(hash_bytes(random_bytes(5)))
    assert value("seconds_count", operation="fetch", outcome="not_found") == failures + 1


async def test_a_slash_at_the_end_of_an_address_changes_nothing(storage_settings: Settings) -> None:
    slashed = storage_settings.model_copy(update={"s3_endpoint": f"{storage_settings.s3_endpoint}/"})
    digest = await S3ContentStore(slashed).put_bytes(random_bytes(9))
    assert await S3ContentStore(storage_settings).exists(digest)


async def test_a_file_is_sent_again_after_the_store_failed_once(storage_settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(random_bytes(3 << 20))
    with front(storage_settings, replace(MINIO, failures=1)) as settings:
        digest = await S3ContentStore(settings).put_file(path)
    assert await S3ContentStore(storage_settings).read(digest) == path.read_bytes()
