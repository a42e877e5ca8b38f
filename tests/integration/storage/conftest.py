from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.platform.settings import Settings
from services.storage import S3ContentStore, Uploads
from services.storage.bucket import Bucket


@pytest.fixture(scope="session")
def storage_settings(s3_settings: dict[str, str]) -> Settings:
    return Settings.model_validate(s3_settings)


@pytest.fixture
def bucket(storage_settings: Settings) -> Bucket:
    return Bucket.of(storage_settings)


@pytest.fixture
def store(storage_settings: Settings) -> S3ContentStore:
    return S3ContentStore(storage_settings)


@pytest.fixture
def uploads(storage_settings: Settings) -> Uploads:
    return Uploads(storage_settings)


@pytest.fixture
def keys(bucket: Bucket) -> Callable[[str], Any]:
    """Return the keys under a prefix, with the multipart uploads that are open there."""

    async def list_keys(prefix: str) -> tuple[list[str], list[str]]:
        def look(client: Any, _stop: object) -> tuple[list[str], list[str]]:
            objects = client.list_objects_v2(Bucket=bucket.name, Prefix=prefix).get("Contents", [])
            open_ones = client.list_multipart_uploads(Bucket=bucket.name, Prefix=prefix).get("Uploads", [])
            return [each["Key"] for each in objects], [each["Key"] for each in open_ones]

        return await bucket.run(look)

    return list_keys


def names_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder; none where it does not exist."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that tells nobody when it happens."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def random_bytes(size: int) -> bytes:
    """Return bytes unlike any that another test stored."""
    block = hashlib.shake_256(uuid.uuid4().bytes).digest(1 << 16)
    return (block * (size // len(block) + 1))[:size]
