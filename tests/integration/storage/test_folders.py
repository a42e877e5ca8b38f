"""Folders whose files are copies of stored bytes, made inside the store."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import pytest
from lathe.type.v1.digest_pb2 import File

from services.platform.settings import Settings
from services.storage import S3ContentStore
from services.storage.bucket import Bucket
from services.storage.folders import Folders
from tests.integration.storage.conftest import random_bytes

MIB = 1 << 20


@pytest.fixture
def folder() -> str:
    return f"folder-{uuid.uuid4().hex}"


@pytest.mark.parametrize("size", [0, 5 * MIB, 10 * MIB, 12 * MIB])
async def test_large_files_are_copied_in_parts(  # noqa: PLR0917
    storage_settings: Settings,
    store: S3ContentStore,
    bucket: Bucket,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    monkeypatch.setattr("services.storage.copying.PART_BYTES", 5 * MIB)
    data = random_bytes(size)
    file = File(path="a/b", digest=await store.put_bytes(data))
    await Folders(storage_settings).copy(folder, [file], missing_only=False)
    assert await bucket.run(lambda client, _: client.get_object(bucket.name, f"{folder}/a/b").data) == data


async def test_what_is_there_is_left_and_what_is_extra_is_removed(
    storage_settings: Settings,
    store: S3ContentStore,
    bucket: Bucket,
    folder: str,
    keys: Callable[[str], Awaitable[list[str]]],
) -> None:
    folders = Folders(storage_settings)
    old, new = [await store.put_bytes(random_bytes(10)) for _ in range(2)]
    await folders.copy(folder, [File(path=path, digest=old) for path in ("x", "y", "sub/z")], missing_only=False)
    await folders.copy(folder, [File(path="x", digest=new)], missing_only=True)
    assert await bucket.run(lambda client, _: client.get_object(bucket.name, f"{folder}/x").data) == await store.read(
        old
    )
    await folders.copy(folder, [File(path="x", digest=new)], missing_only=False)
    assert await bucket.run(lambda client, _: client.get_object(bucket.name, f"{folder}/x").data) == await store.read(
        new
    )
    await folders.sweep(folder, {"x", "sub/z"})
    assert await keys(f"{folder}/") == [f"{folder}/sub/z", f"{folder}/x"]
    assert folders.uri(folder) == f"s3://{bucket.name}/{folder}"
