"""Stores the files of items under their digests, each once, and checks every image."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from engines.datasets.archives import BombError, Budget
from engines.datasets.found import Found
from engines.datasets.tensors import inspect
from engines.failures import EngineFailure, FailureReason
from engines.imaging import Size, measure

CONTENT = "content"
"""Name of the folder with the files of items, next to the index."""

_THREADS = 4


@dataclass(frozen=True, slots=True)
class Content:
    """A stored file: its digest, size in bytes, and size in pixels (0 by 0 for tensors)."""

    sha256: str
    size_bytes: int
    image: Size


class ContentFolder:
    """A folder of files named by their SHA-256 digest."""

    def __init__(self, folder: Path) -> None:
        """Store into `folder`."""
        self._folder = folder
        self._one_large = Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def image(self, path: Path) -> Content:
        """Store an image after decoding all of it; raises INVALID_DATA if it is not an image."""
        size = measure(path, self._one_large)
        return Content(self._store(path), path.stat().st_size, size)

    def tensors(self, path: Path) -> Content:
        """Store a file of tensors."""
        return Content(self._store(path), path.stat().st_size, Size(0, 0))

    def _store(self, path: Path) -> str:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        target = self._folder / digest
        if not target.exists():
            try:
                os.link(path, target)
            except FileExistsError:
                pass  # Another thread stored the same image.
            except OSError:
                # Not every file system has links. The rename makes the copy appear complete or not at all.
                partial = target.with_name(f"{digest}.{os.urandom(4).hex()}")
                shutil.copyfile(path, partial)
                partial.replace(target)
        return digest


Checked = tuple[Found, Content | EngineFailure]


def checked_images(found: Iterable[Found], files: Mapping[str, Path], folder: ContentFolder) -> Iterator[Checked]:
    """Yield each item with its stored image, or the failure, in order; a few images are checked at a time."""
    with ThreadPoolExecutor(max(2, min(_THREADS, os.cpu_count() or 1))) as pool:
        yield from _in_order(pool, found, lambda item: _attempt(folder.image, files[item.path]))


def checked_tensors(
    found: Iterable[Found], files: Mapping[str, Path], folder: ContentFolder, rows: Mapping[str, int], budget: Budget
) -> Iterator[Checked]:
    """Yield each row with its stored file, or the failure, in order.

    `rows` has the number of rows of the files that the reader has inspected; others are inspected here, against
    `budget`.
    """
    stored: dict[str, Callable[[int], Content | EngineFailure]] = {}
    for item in found:
        if item.path not in stored:
            stored[item.path] = _rows_of(item.path, files[item.path], folder, rows.get(item.path), budget)
        yield item, stored[item.path](item.row)


def _rows_of(
    name: str, path: Path, folder: ContentFolder, rows: int | None, budget: Budget
) -> Callable[[int], Content | EngineFailure]:
    bad: Mapping[int, str] = {}
    if rows is None:
        try:
            file = inspect(path, name, budget)
        except BombError:
            raise
        except EngineFailure as failure:
            refusal = failure
            return lambda row: refusal
        rows, bad = file.rows, file.bad
    content, count = folder.tensors(path), rows

    def checked(row: int) -> Content | EngineFailure:
        why = bad.get(row) if row < count else f"The file has no row {row}; it has {count:,} rows."
        return EngineFailure(FailureReason.INVALID_DATA, why) if why else content

    return checked


def _attempt(store: Callable[[Path], Content], path: Path) -> Content | EngineFailure:
    try:
        return store(path)
    except EngineFailure as failure:
        return failure


def _in_order(
    pool: ThreadPoolExecutor, found: Iterable[Found], work: Callable[[Found], Content | EngineFailure]
) -> Iterator[Checked]:
    waiting: deque[tuple[Found, Future[Content | EngineFailure]]] = deque()
    for item in found:
        waiting.append((item, pool.submit(work, item)))
        if len(waiting) >= 8 * _THREADS:
            first, result = waiting.popleft()
            yield first, result.result()
    while waiting:
        first, result = waiting.popleft()
        yield first, result.result()
