"""Uploads that are never finished, and what they left in the store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from lathe.registry.v1.artifact_service_pb2 import (
    UPLOAD_STATE_ABORTED,
    UPLOAD_STATE_FINALIZED,
    UPLOAD_STATE_OPEN,
    UPLOAD_STATE_VERIFYING,
    CreateUploadRequest,
)
from lathe.type.v1.digest_pb2 import Digest, File

from services.database.pool import Database, migrate
from services.platform.background import end
from services.platform.errors import LatheError
from services.platform.settings import Settings
from services.registry import migrations
from services.registry.artifacts import Artifacts
from services.registry.blobs import Blobs
from services.registry.verification import verifications
from services.storage import ContentStore, S3ContentStore, Uploads


@pytest.fixture
async def database(shared_settings: Settings) -> AsyncIterator[Database]:
    await migrate(shared_settings.database_url, "registry", migrations)
    database = await Database.connect(shared_settings.database_url, "registry")
    yield database
    await database.close()


@pytest.fixture
def content(shared_settings: Settings) -> ContentStore:
    return S3ContentStore(shared_settings)


@pytest.fixture
def artifacts(shared_settings: Settings, database: Database, content: ContentStore) -> Artifacts:
    uploads, blobs = Uploads(shared_settings), Blobs(database, content)
    return Artifacts(database, content, uploads, blobs, verifications(database, uploads, blobs, shared_settings))


async def _age(database: Database, name: str, by: timedelta) -> None:
    uid = uuid.UUID(name.removeprefix("uploads/"))
    await database.execute("UPDATE uploads SET expire_time = expire_time - $2::interval WHERE uid = $1", uid, by)


async def test_an_upload_that_is_never_finished_is_given_up(artifacts: Artifacts, database: Database) -> None:
    left, fresh = [await artifacts.open(CreateUploadRequest(size_bytes=5)) for _ in range(2)]
    url = left.parts[0].url
    async with httpx.AsyncClient() as http:
        (await http.put(url, content=b"12345")).raise_for_status()
        await _age(database, left.name, timedelta(days=8))
        await artifacts.expire()
        assert (await artifacts.get(left.name)).state == UPLOAD_STATE_ABORTED
        await http.put(url, content=b"12345")  # its URL cannot be taken back; what it stores is swept
    with pytest.raises(LatheError) as refusal:
        await artifacts.finalize(left.name, Digest(sha256=hashlib.sha256(b"12345").hexdigest(), size_bytes=5))
    assert refusal.value.reason == "UPLOAD_ABORTED"
    assert (await artifacts.get(fresh.name)).state == UPLOAD_STATE_OPEN


async def test_a_verification_outlives_the_process_that_does_it(shared_settings: Settings, database_url: str) -> None:
    settings = shared_settings.model_copy(update={"database_url": database_url})
    await migrate(database_url, "registry", migrations)
    database = await Database.connect(database_url, "registry")
    content, uploads = S3ContentStore(settings), Uploads(settings)
    blobs = Blobs(database, content)
    runner = verifications(database, uploads, blobs, settings)
    artifacts = Artifacts(database, content, uploads, blobs, runner)
    data = os.urandom(17 << 20)
    digest = Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    upload = await artifacts.open(CreateUploadRequest(size_bytes=len(data)))
    async with httpx.AsyncClient(timeout=60) as http:
        for part in upload.parts:
            piece = data[part.offset : part.offset + part.size_bytes]
            (await http.put(part.url, content=piece)).raise_for_status()
    assert (await artifacts.finalize(upload.name, digest)).state == UPLOAD_STATE_VERIFYING
    dead = await runner.backlog.claim()
    assert dead is not None
    assert await runner.backlog.claim() is None
    await database.execute("UPDATE upload_checks SET lease_time = now()")  # which passes, as nobody renews it
    running = asyncio.create_task(runner.run())
    try:
        *_, ended = [each async for each in artifacts.watch(upload.name)]
    finally:
        await end([running])
        await database.close()
    assert (ended.state, ended.digest) == (UPLOAD_STATE_FINALIZED, digest)
    assert await content.exists(digest)


async def test_ended_uploads_are_forgotten(artifacts: Artifacts, database: Database) -> None:
    upload = await artifacts.open(CreateUploadRequest(size_bytes=5))
    await artifacts.cancel(upload.name)
    await artifacts.expire()
    assert (await artifacts.get(upload.name)).state == UPLOAD_STATE_ABORTED
    await _age(database, upload.name, timedelta(days=20))
    await artifacts.expire()
    with pytest.raises(LatheError, match="no upload"):
        await artifacts.get(upload.name)


async def test_bytes_that_a_worker_stored_are_found(database: Database, content: ContentStore) -> None:
    blobs = Blobs(database, content)
    stored = await content.put_bytes(uuid.uuid4().bytes)
    gone = Digest(sha256=hashlib.sha256(b"never stored").hexdigest(), size_bytes=12)
    files = [File(path="stored", digest=stored), File(path="gone", digest=gone)]
    assert [file.path for file in await blobs.missing(files)] == ["gone"]
    assert (await blobs.get(stored.sha256)).digest == stored


async def test_bytes_that_nobody_asked_for_before_are_found(database: Database, content: ContentStore) -> None:
    blobs = Blobs(database, content)
    stored = await content.put_bytes(uuid.uuid4().bytes)
    first = await blobs.get(stored.sha256)
    assert first.digest == stored
    assert await blobs.get(stored.sha256) == first
    with pytest.raises(LatheError, match="no artifact"):
        await blobs.get("f" * 64)
