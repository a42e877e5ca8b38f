from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError
from services.platform.settings import Settings
from services.storage import S3ContentStore, StagedPart, Uploads, hash_bytes
from services.storage.bucket import Bucket
from services.storage.keys import content_key
from tests.eventually import eventually
from tests.integration.storage.conftest import Hold, random_bytes

MIB = 1 << 20
SIZE = 33 * MIB


@pytest.fixture
def upload_id() -> str:
    return uuid.uuid4().hex


async def send(data: bytes, parts: list[StagedPart]) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        for part in parts:
            body = data[part.span.offset : part.span.offset + part.span.size]
            (await client.put(part.url, content=body)).raise_for_status()


async def refused(attempt: Any, reason: str, code: str = "INVALID_ARGUMENT") -> LatheError:
    with pytest.raises(LatheError) as caught:
        await attempt
    assert (caught.value.code.name, caught.value.reason) == (code, reason)
    return caught.value


async def test_a_file_in_parts_ends_under_its_digest(
    uploads: Uploads, store: S3ContentStore, keys: Callable[[str], Any], upload_id: str
) -> None:
    data = random_bytes(SIZE)
    parts = await uploads.open(upload_id, SIZE)
    assert [(part.span.number, part.span.size) for part in parts] == [(1, 16 * MIB), (2, 16 * MIB), (3, MIB)]
    assert not any(part.received for part in parts)
    await send(data, parts)
    digest = hash_bytes(data)
    assert not await store.exists(digest)
    await uploads.verify_and_commit(upload_id, SIZE, digest)
    assert await store.read(digest) == data
    # What has arrived proves it, until whoever commits has noted it.
    await uploads.verify_and_commit(upload_id, SIZE, digest, unsent=False)
    await uploads.abort(upload_id)
    assert await keys(f"staging/{upload_id}") == []
    await refused(
        uploads.verify_and_commit(upload_id, SIZE, digest, unsent=False), "UPLOAD_INCOMPLETE", "FAILED_PRECONDITION"
    )
    assert await keys(content_key(digest)) == [content_key(digest)]
    await uploads.verify_and_commit(upload_id, SIZE, digest)


async def test_an_interrupted_upload_is_resumed(uploads: Uploads, store: S3ContentStore, upload_id: str) -> None:
    data = random_bytes(SIZE)
    parts = await uploads.open(upload_id, SIZE)
    await send(data, [parts[0], parts[2]])
    error = await refused(
        uploads.verify_and_commit(upload_id, SIZE, hash_bytes(data)), "UPLOAD_INCOMPLETE", "FAILED_PRECONDITION"
    )
    assert "1 of 3 parts have not arrived in their full size: 2" in error.message
    again = await uploads.parts(upload_id, SIZE)
    assert [(part.received, bool(part.url)) for part in again] == [(True, False), (False, True), (True, False)]
    await send(data, [part for part in again if not part.received])
    await uploads.verify_and_commit(upload_id, SIZE, hash_bytes(data))
    assert await store.exists(hash_bytes(data))


async def test_of_a_part_that_is_sent_twice_the_last_one_counts(
    uploads: Uploads, store: S3ContentStore, upload_id: str
) -> None:
    parts = await uploads.open(upload_id, 1000)
    bodies = [random_bytes(1000) for _ in range(2)]
    for body in bodies:
        await send(body, parts)
    await uploads.verify_and_commit(upload_id, 1000, hash_bytes(bodies[1]))
    assert await store.read(hash_bytes(bodies[1])) == bodies[1]
    assert not await store.exists(hash_bytes(bodies[0]))


async def test_wrong_bytes_are_not_stored_and_can_be_sent_again(
    uploads: Uploads, store: S3ContentStore, keys: Callable[[str], Any], upload_id: str
) -> None:
    data = random_bytes(17 * MIB)
    damaged = data[:-1] + bytes([data[-1] ^ 1])
    digest = hash_bytes(data)
    await send(damaged, await uploads.open(upload_id, len(data)))
    error = await refused(uploads.verify_and_commit(upload_id, len(data), digest), "DIGEST_MISMATCH")
    assert hash_bytes(damaged).sha256 in error.message
    assert error.fields[0][0] == "digest.sha256"
    assert not await store.exists(digest)
    assert not await store.exists(hash_bytes(damaged))
    assert await keys(content_key(digest)) == []
    again = await uploads.parts(upload_id, len(data))
    assert [(part.received, bool(part.url)) for part in again] == [(False, True)] * 2
    await send(data, again[:1])
    await refused(uploads.verify_and_commit(upload_id, len(data), digest), "UPLOAD_INCOMPLETE", "FAILED_PRECONDITION")
    await send(data, again[1:])
    await uploads.verify_and_commit(upload_id, len(data), digest)
    assert await store.read(digest) == data


async def test_a_wrong_digest_can_be_corrected_without_sending_again(
    uploads: Uploads, store: S3ContentStore, upload_id: str
) -> None:
    data = random_bytes(MIB)
    await send(data, await uploads.open(upload_id, MIB))
    wrong = Digest(sha256="0" * 64, size_bytes=MIB)
    await refused(uploads.verify_and_commit(upload_id, MIB, wrong), "DIGEST_MISMATCH")
    await uploads.verify_and_commit(upload_id, MIB, hash_bytes(data))
    assert await store.exists(hash_bytes(data))


async def test_the_digest_of_other_stored_bytes_is_wrong_too(
    uploads: Uploads, store: S3ContentStore, upload_id: str
) -> None:
    stored = await store.put_bytes(random_bytes(MIB))
    await send(random_bytes(MIB), await uploads.open(upload_id, MIB))
    await refused(uploads.verify_and_commit(upload_id, MIB, stored), "DIGEST_MISMATCH")


async def test_parts_of_another_size_do_not_count(uploads: Uploads, upload_id: str) -> None:
    data = random_bytes(MIB)
    [part] = await uploads.open(upload_id, MIB)
    for wrong in (data[:-1], data + b"x", b""):
        async with httpx.AsyncClient(timeout=60) as client:
            (await client.put(part.url, content=wrong)).raise_for_status()
        assert [part.received for part in await uploads.parts(upload_id, MIB)] == [False]
        await refused(
            uploads.verify_and_commit(upload_id, MIB, hash_bytes(data)), "UPLOAD_INCOMPLETE", "FAILED_PRECONDITION"
        )


async def test_a_size_other_than_announced_is_refused(uploads: Uploads, upload_id: str) -> None:
    data = random_bytes(100)
    await send(data, await uploads.open(upload_id, 100))
    digest = hash_bytes(data)
    digest.size_bytes = 99
    error = await refused(uploads.verify_and_commit(upload_id, 100, digest), "SIZE_MISMATCH")
    assert error.fields[0][0] == "digest.size_bytes"


async def test_an_aborted_upload_leaves_nothing(uploads: Uploads, keys: Callable[[str], Any], upload_id: str) -> None:
    data = random_bytes(MIB)
    parts = await uploads.open(upload_id, MIB)
    await send(data, parts)
    await uploads.abort(upload_id)
    await uploads.abort(upload_id)
    assert await keys(f"staging/{upload_id}") == []
    # A URL cannot be taken back: what comes by it later is swept.
    await send(data, parts)
    await uploads.sweep(timedelta(seconds=-5))
    assert await keys(f"staging/{upload_id}") == []


async def test_an_empty_file(uploads: Uploads, store: S3ContentStore, upload_id: str) -> None:
    assert await uploads.open(upload_id, 0) == []
    await refused(uploads.verify_and_commit(upload_id, 0, Digest(sha256="0" * 64, size_bytes=0)), "DIGEST_MISMATCH")
    await uploads.verify_and_commit(upload_id, 0, hash_bytes(b""))
    assert await store.read(hash_bytes(b"")) == b""


async def test_an_upload_finds_its_bucket_made(storage_settings: Settings, upload_id: str) -> None:
    settings = storage_settings.model_copy(update={"s3_bucket": f"new-{upload_id[:12]}"})
    await send(b"x", await Uploads(settings).open(upload_id, 1))


async def test_the_same_bytes_twice_are_stored_once(
    uploads: Uploads, store: S3ContentStore, keys: Callable[[str], Any]
) -> None:
    data = random_bytes(MIB)
    for _ in range(2):
        upload_id = uuid.uuid4().hex
        await send(data, await uploads.open(upload_id, MIB))
        await uploads.verify_and_commit(upload_id, MIB, hash_bytes(data))
        await uploads.abort(upload_id)
    assert await keys(content_key(hash_bytes(data))) == [content_key(hash_bytes(data))]


async def test_two_commits_at_once_store_it(uploads: Uploads, store: S3ContentStore, upload_id: str) -> None:
    data = random_bytes(MIB)
    await send(data, await uploads.open(upload_id, MIB))
    commits = [uploads.verify_and_commit(upload_id, MIB, hash_bytes(data)) for _ in range(2)]
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    assert None in outcomes
    assert await store.read(hash_bytes(data)) == data


async def test_a_commit_that_was_cut_off_is_repeated(uploads: Uploads, store: S3ContentStore, upload_id: str) -> None:
    data = random_bytes(24 * MIB)
    digest = hash_bytes(data)
    await send(data, await uploads.open(upload_id, len(data)))
    hold = Hold()
    commit = asyncio.create_task(uploads.verify_and_commit(upload_id, len(data), digest, hold))
    await eventually(hold.begun.is_set)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    hold.over.set()
    assert not await store.exists(digest)
    assert all(part.received for part in await uploads.parts(upload_id, len(data)))
    await uploads.verify_and_commit(upload_id, len(data), digest)
    assert await store.exists(digest)


async def test_a_part_that_is_replaced_while_it_is_read_changes_nothing(
    uploads: Uploads, store: S3ContentStore, upload_id: str
) -> None:
    data, other = random_bytes(SIZE), random_bytes(SIZE)
    parts = await uploads.open(upload_id, SIZE)
    await send(data, parts)
    hold = Hold()
    commit = asyncio.create_task(uploads.verify_and_commit(upload_id, SIZE, hash_bytes(data), hold))
    await eventually(hold.begun.is_set)
    await send(other, parts)
    hold.over.set()
    await refused(commit, "DIGEST_MISMATCH")
    assert not await store.exists(hash_bytes(data))


async def test_progress_is_reported_while_a_file_is_read(uploads: Uploads, upload_id: str) -> None:
    data = random_bytes(SIZE)
    await send(data, await uploads.open(upload_id, SIZE))
    counts: list[int] = []
    await uploads.verify_and_commit(upload_id, SIZE, hash_bytes(data), counts.append)
    assert sum(counts) == SIZE
    assert len(counts) > 10


async def test_a_small_file_does_not_wait_for_large_ones(uploads: Uploads, store: S3ContentStore) -> None:
    large, hold = random_bytes(17 * MIB), Hold()
    names = [uuid.uuid4().hex for _ in range(4)]
    for name in names:
        await send(large, await uploads.open(name, len(large)))
    commits = [
        asyncio.create_task(uploads.verify_and_commit(name, len(large), hash_bytes(large), hold)) for name in names
    ]
    await eventually(hold.begun.is_set)
    small = random_bytes(1000)
    await send(small, await uploads.open(name := uuid.uuid4().hex, len(small)))
    await uploads.verify_and_commit(name, len(small), hash_bytes(small))
    assert await store.read(hash_bytes(small)) == small
    assert not any(commit.done() for commit in commits)
    hold.over.set()
    await asyncio.gather(*commits)


async def test_a_file_too_large_for_one_put_goes_in_several(
    uploads: Uploads, store: S3ContentStore, upload_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.storage.bucket.SINGLE_PUT_BYTES", 8 * MIB)
    monkeypatch.setattr("services.storage.bucket.PART_BYTES", 5 << 20)
    data = random_bytes(12 * MIB)
    await send(data, await uploads.open(upload_id, len(data)))
    wrong = Digest(sha256="0" * 64, size_bytes=len(data))
    await refused(uploads.verify_and_commit(upload_id, len(data), wrong), "DIGEST_MISMATCH")
    assert not await store.exists(wrong)
    assert await uploads.direct(upload_id, hash_bytes(data)) is None
    await uploads.verify_and_commit(upload_id, len(data), hash_bytes(data))
    assert await store.exists(hash_bytes(data))


async def test_the_sweep_removes_what_was_left_behind_and_nothing_of_others(
    uploads: Uploads, store: S3ContentStore, bucket: Bucket, keys: Callable[[str], Any], upload_id: str
) -> None:
    kept = await store.put_bytes(random_bytes(100))
    await send(random_bytes(MIB), await uploads.open(upload_id, MIB))
    for key in ("staging/lost", "somebody/else"):
        await bucket.run(lambda *_, key=key: bucket.put(key, b"x", hash_bytes(b"x")))
    await uploads.sweep(timedelta(hours=1))
    assert await keys("staging/lost")
    assert await uploads.sweep(timedelta(seconds=-5)) >= 2
    assert await keys("staging/") == []
    assert await keys("somebody/else") == ["somebody/else"]
    assert await store.exists(kept)
