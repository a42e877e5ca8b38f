from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

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
def keys(bucket: Bucket) -> Callable[[str], Awaitable[list[str]]]:
    """Return the keys under a prefix."""

    async def list_keys(prefix: str) -> list[str]:
        return await bucket.run(lambda *_: [str(each.object_name) for each in bucket.objects(prefix)])

    return list_keys


def names_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder; none if it does not exist."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


class Hold:
    """Holds whoever comes to it, in any thread, until it is let go.

    Attributes:
        begun: Set when somebody has come.
        over: Lets everybody go.
    """

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self, _count: int = 0) -> None:
        self.begun.set()
        self.over.wait(240)


def random_bytes(size: int) -> bytes:
    """Return bytes unlike any that another test stored."""
    block = hashlib.shake_256(uuid.uuid4().bytes).digest(1 << 16)
    return (block * (size // len(block) + 1))[:size]
