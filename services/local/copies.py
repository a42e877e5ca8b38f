"""The objects of a bucket as files of a folder, each content once, named by its SHA-256."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeVar

from lathe.type.v1.digest_pb2 import Digest

from services.local.errors import LocalError
from services.storage.bucket import Bucket, is_missing
from services.storage.hashing import BLOCK_BYTES, hash_blocks, hash_file
from services.storage.keys import BOOKKEEPING, content_key

_AT_ONCE = 8
# So many are handed to the threads at a time, so that a list of millions is never in memory twice.
_BATCH = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Copied:
    """One object: its key, and the SHA-256 and the size in bytes of what it holds."""

    key: str
    sha256: str
    size_bytes: int

    @property
    def digest(self) -> Digest:
        """The digest as the store takes it."""
        return Digest(sha256=self.sha256, size_bytes=self.size_bytes)


def copy_out(bucket: Bucket, folder: Path) -> tuple[list[Copied], list[str]]:
    """Copy every object but claims and gates into a folder; what is there already by its digest is not read again.

    Returns:
        What was copied, and the keys of stored bytes that are damaged, which are left out.
    """
    damaged: list[str] = []

    def copy(key: str, size: int) -> Copied | None:
        named = key.rpartition("/")[2]
        # The name of stored bytes is their digest, and never gets others.
        stored = key == content_key(Digest(sha256=named))
        if stored and _has(folder, named, size):
            return Copied(key, named, size)
        copied = _fetch(bucket, key, folder)
        if copied is not None and stored and copied.sha256 != named:
            damaged.append(key)
            return None
        return copied

    found = (each for each in bucket.objects("") if not str(each.object_name).startswith(BOOKKEEPING))
    listed = ((str(each.object_name), int(each.size or 0)) for each in found)
    return [each for each in _side_by_side(copy, listed) if each is not None], sorted(damaged)


def copy_in(bucket: Bucket, folder: Path, objects: Iterable[Copied]) -> int:
    """Put objects back, and return how many bytes were missing in the bucket.

    Raises:
        LocalError: A file of the folder is missing or damaged.
    """

    def put(each: Copied) -> int:
        if each.key == content_key(each.digest) and bucket.size(each.key) == each.size_bytes:
            return 0
        path = _path(folder, each.sha256)
        if not path.exists() or hash_file(path) != each.digest:
            raise LocalError(f"{path} is missing or damaged. Take another backup, or copy this file again.")
        with path.open("rb") as file:
            bucket.put(each.key, file, each.digest)
        return each.size_bytes

    return sum(_side_by_side(put, ((each,) for each in objects)))


def write_list(path: Path, objects: Iterable[Copied]) -> None:
    """Write what was copied, one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(each)) + "\n" for each in objects)


def read_list(path: Path) -> Iterator[Copied]:
    """Yield what a list holds."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Copied(**json.loads(line))


def remove_others(folder: Path, objects: Iterable[Copied]) -> None:
    """Remove the files of a folder that no object has."""
    kept = {each.sha256 for each in objects}
    for path in folder.glob("*/*"):
        if path.name not in kept:
            path.unlink()


def _fetch(bucket: Bucket, key: str, folder: Path) -> Copied | None:
    """Copy one object; None if it was removed after it was listed."""
    from minio.error import S3Error

    try:
        answer = bucket.client.get_object(bucket.name, key)
    except S3Error as error:
        if is_missing(error):
            return None
        raise
    with answer, NamedTemporaryFile(dir=folder, prefix="draft-", delete=False) as draft:
        try:
            found = hash_blocks(answer.stream(BLOCK_BYTES, decode_content=False), draft.write)
            answer.release_conn()
            draft.flush()
            path = _path(folder, found.sha256)
            path.parent.mkdir(exist_ok=True)
            Path(draft.name).replace(path)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise
    return Copied(key, found.sha256, found.size_bytes)


def _has(folder: Path, sha256: str, size: int) -> bool:
    path = _path(folder, sha256)
    return path.exists() and path.stat().st_size == size


def _path(folder: Path, sha256: str) -> Path:
    return folder / sha256[:2] / sha256


def _side_by_side(work: Callable[..., T], calls: Iterable[tuple[object, ...]]) -> Iterator[T]:
    rest = iter(calls)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="copy") as threads:
        while batch := list(islice(rest, _BATCH)):
            yield from threads.map(lambda call: work(*call), batch)
