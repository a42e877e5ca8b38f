from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError
from services.platform.settings import Settings
from services.storage import CachingStore, ContentStore, S3ContentStore, hash_bytes, hash_file
from services.storage.bucket import Bucket
from services.storage.keys import content_key
from tests.integration.storage.conftest import names_in, random_bytes

KIB = 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(store: S3ContentStore, folder: Path) -> CachingStore:
    return CachingStore(store, folder, limit_bytes=100 * KIB)


def _entries(folder: Path) -> set[str]:
    return names_in(folder) - {".lock"}


async def _remove(bucket: Bucket, digest: Digest) -> None:
    await bucket.run(lambda client, _: client.remove_object(bucket.name, content_key(digest)))


async def test_the_second_fetch_needs_no_store(
    cache: CachingStore, bucket: Bucket, folder: Path, tmp_path: Path
) -> None:
    data = random_bytes(10 * KIB)
    digest = await cache.put_bytes(data)
    await cache.fetch(digest, tmp_path / "a" / "x")
    await _remove(bucket, digest)
    await cache.fetch(digest, tmp_path / "b" / "x")
    assert (tmp_path / "a" / "x").read_bytes() == (tmp_path / "b" / "x").read_bytes() == data
    assert _entries(folder) == {digest.sha256}


async def test_whoever_changes_his_copy_changes_no_other(cache: CachingStore, tmp_path: Path) -> None:
    digest = await cache.put_bytes(random_bytes(KIB))
    for name in ("a", "b", "c"):
        await cache.fetch(digest, tmp_path / name)
        assert hash_file(tmp_path / name) == digest
        (tmp_path / name).write_bytes(b"changed")


async def test_a_damaged_entry_is_fetched_again(cache: CachingStore, folder: Path, tmp_path: Path) -> None:
    digest = await cache.put_bytes(random_bytes(KIB))
    await cache.fetch(digest, tmp_path / "a")
    (folder / digest.sha256).write_bytes(b"damaged")
    await cache.fetch(digest, tmp_path / "b")
    assert hash_file(tmp_path / "b") == hash_file(folder / digest.sha256) == digest


async def test_the_folder_stays_within_its_bound_and_keeps_what_was_used_last(
    cache: CachingStore, folder: Path, tmp_path: Path
) -> None:
    digests = [await cache.put_bytes(random_bytes(30 * KIB)) for _ in range(4)]
    for age, digest in enumerate(digests[:3]):
        await cache.fetch(digest, tmp_path / "x")
        os.utime(folder / digest.sha256, times=(time.time() - 100 + age,) * 2)
    await cache.fetch(digests[0], tmp_path / "x")
    await cache.fetch(digests[3], tmp_path / "x")
    assert _entries(folder) == {digests[0].sha256, digests[2].sha256, digests[3].sha256}


async def test_what_is_larger_than_the_folder_passes_by(cache: CachingStore, folder: Path, tmp_path: Path) -> None:
    small = await cache.put_bytes(random_bytes(KIB))
    large = await cache.put_bytes(random_bytes(101 * KIB))
    await cache.fetch(small, tmp_path / "x")
    await cache.fetch(large, tmp_path / "x")
    assert hash_file(tmp_path / "x") == large
    assert _entries(folder) == {small.sha256}


async def test_many_small_files_stay_within_the_bound(cache: CachingStore, folder: Path, tmp_path: Path) -> None:
    for number in range(130):
        digest = await cache.put_bytes(random_bytes(KIB - 200))
        await cache.fetch(digest, tmp_path / str(number))
    kept = [os.stat(folder / name).st_size for name in _entries(folder)]
    assert 90 * KIB < sum(kept) <= 100 * KIB


async def test_what_a_dead_process_left_is_removed(cache: CachingStore, folder: Path, tmp_path: Path) -> None:
    digest = await cache.put_bytes(random_bytes(KIB))
    await cache.fetch(digest, tmp_path / "x")
    for name, age in (("old.partial", 48 * 3600), ("new.partial", 0)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, times=(time.time() - age,) * 2)
    other = await cache.put_bytes(random_bytes(KIB))
    await cache.fetch(other, tmp_path / "x")
    assert _entries(folder) == {digest.sha256, other.sha256, "new.partial"}


async def test_a_failed_fetch_leaves_nothing(cache: CachingStore, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LatheError):
        await cache.fetch(hash_bytes(random_bytes(7)), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert _entries(folder) == set()


async def test_the_rest_is_the_store_behind(cache: CachingStore, tmp_path: Path) -> None:
    as_port: ContentStore = cache
    (tmp_path / "x").write_bytes(data := random_bytes(KIB))
    digest = await as_port.put_file(tmp_path / "x")
    assert await as_port.exists(digest)
    assert await as_port.read(digest) == data
    assert digest.sha256 in await as_port.presigned_get(digest, "", timedelta(hours=1))


FETCH = """
import asyncio, sys
from pathlib import Path
from lathe.type.v1.digest_pb2 import Digest
from services.platform.settings import Settings
from services.storage import CachingStore, S3ContentStore, hash_file
settings, folder, out, *digests = sys.argv[1:]
async def main():
    cache = CachingStore(S3ContentStore(Settings.model_validate_json(settings)), Path(folder), 100 * 1024)
    for turn in range(3):
        for text in digests:
            digest = Digest(sha256=text, size_bytes=40 * 1024)
            await cache.fetch(digest, Path(out))
            assert hash_file(Path(out)) == digest
asyncio.run(main())
"""


async def test_processes_share_the_folder(
    cache: CachingStore, folder: Path, tmp_path: Path, s3_settings: dict[str, str]
) -> None:
    digests = [(await cache.put_bytes(random_bytes(40 * KIB))).sha256 for _ in range(4)]
    settings = Settings.model_validate(s3_settings).model_dump_json(include=set(s3_settings))
    settings = settings.replace("**********", s3_settings["s3_secret_key"])
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", FETCH, settings, str(folder), str(tmp_path / f"out{number}"), *order
        )
        for number, order in enumerate((digests, digests[::-1], digests[2:] + digests[:2]))
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    assert sum(os.stat(folder / name).st_size for name in _entries(folder)) <= 100 * KIB
    assert not [name for name in _entries(folder) if name.endswith(".partial")]
