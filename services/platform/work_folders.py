"""Work folders. Who works in one holds its lock; what a killed process left is removed by the next one that comes.

The lock is the kernel's (flock(2)), so that containers that share a volume, whose numbers of processes are their own,
leave each other's folders alone. Strangers' code writes into them, and may nest them more deeply than `shutil.rmtree`,
which fails then, has frames.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

_PREFIX = "work-"
# What this process holds: folder → open file of its lock.
_held: dict[Path, int] = {}


@asynccontextmanager
async def temporary_folder(root: Path) -> AsyncIterator[Path]:
    """Make a work folder inside `root`, and remove it in the end, both in a thread."""
    making = asyncio.create_task(asyncio.to_thread(work_folder, root))
    try:
        yield await asyncio.shield(making)
    finally:
        await asyncio.shield(_remove_made(making))


async def _remove_made(making: asyncio.Task[Path]) -> None:
    """Remove a folder, even if who asked for it was cancelled while a thread still made it."""
    await asyncio.to_thread(remove_folder, await making)


def work_folder(root: Path) -> Path:
    """Return a new folder inside `root`, held until it is removed; sweep `root`."""
    root.mkdir(parents=True, exist_ok=True)
    # Nobody sweeps meanwhile: until it is locked, it would be taken for one that was left.
    with _locked(root, fcntl.LOCK_SH):
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root)).resolve()
        _held[folder] = _lock(folder, fcntl.LOCK_EX)
    sweep(root)
    return folder


def sweep(root: Path) -> None:
    """Remove the work folders inside `root` that nobody holds; does nothing if there is no such folder."""
    if not root.is_dir():
        return
    left: list[tuple[Path, int]] = []
    with _locked(root, fcntl.LOCK_EX):
        for folder in root.glob(f"{_PREFIX}*"):
            with suppress(OSError):  # another process holds it, or has just removed it
                left.append((folder, _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    for folder, lock in left:
        remove_folder(folder)
        os.close(lock)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    opened = _lock(folder, how)
    try:
        yield
    finally:
        os.close(opened)


def _lock(folder: Path, how: int) -> int:
    """Return an open file that holds a lock on a folder until it is closed; OSError if LOCK_NB finds it taken."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, how)
    except OSError:
        os.close(opened)
        raise
    return opened


def remove_folder(folder: Path) -> None:
    """Remove a folder in which nobody writes any more; what cannot be removed stays.

    What is nested moves up first, so that no path gets long.
    """
    nested = _emptied(folder, folder)
    while nested:
        below = nested.pop()
        nested += _emptied(below, folder)
        _remove_empty(below)
    _remove_empty(folder)
    if (lock := _held.pop(folder, None)) is not None:
        os.close(lock)


def _emptied(folder: Path, top: Path) -> list[Path]:
    """Remove the files of a folder, move the folders in it to `top`, and return those."""
    moved: list[Path] = []
    with suppress(OSError):
        folder.chmod(0o700)
        for name in os.listdir(folder):
            with suppress(OSError):
                if (entry := folder / name).is_dir() and not entry.is_symlink():
                    entry.chmod(0o700)  # its parent changes
                    moved.append(entry.rename(top / uuid.uuid4().hex))
                else:
                    entry.unlink()
    return moved


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
