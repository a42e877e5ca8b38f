"""Stores the files of items by their digest, each once, and looks at every image."""

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

from engines.datasets.found import Found
from engines.failures import EngineFailure
from engines.imaging import measure

_THREADS = 4


@dataclass(frozen=True, slots=True)
class Content:
    """A stored file: digest, size in bytes, and width and height in pixels (0 for tensors)."""

    sha256: str
    size_bytes: int
    width: int = 0
    height: int = 0


class ContentFolder:
    """Holds files as `{sha256}`."""

    def __init__(self, folder: Path) -> None:
        """Store into `folder`."""
        self._folder = folder
        self._one_large = Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def image(self, path: Path) -> Content:
        """Store an image after decoding it whole; INVALID_DATA where it is none."""
        width, height = measure(path, self._one_large)
        return Content(self._store(path), path.stat().st_size, width, height)

    def tensors(self, path: Path) -> Content:
        """Store a file of tensors."""
        return Content(self._store(path), path.stat().st_size)

    def _store(self, path: Path) -> str:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        target = self._folder / digest
        if not target.exists():
            try:
                os.link(path, target)
            except FileExistsError:
                pass  # Another thread had the same image.
            except OSError:
                # Links are not possible everywhere; a rename makes the copy appear whole.
                partial = target.with_name(f"{digest}.{os.urandom(4).hex()}")
                shutil.copyfile(path, partial)
                partial.replace(target)
        return digest


Checked = tuple[Found, Content | EngineFailure]


def checked_images(found: Iterable[Found], files: Mapping[str, Path], folder: ContentFolder) -> Iterator[Checked]:
    """Yield each item with its stored image, or with why it is none, in order; a few images are looked at at a time."""
    with ThreadPoolExecutor(max(2, min(_THREADS, os.cpu_count() or 1))) as pool:
        yield from _in_order(pool, found, lambda item: _attempt(folder.image, files[item.path]))


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
