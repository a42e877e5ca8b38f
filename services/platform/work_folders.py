"""Work folders. What a killed process left behind is removed when another process makes a folder there.

Strangers' code writes into them, and may nest them more deeply than `shutil.rmtree`, which fails then, has frames.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


@asynccontextmanager
async def temporary_folder(root: Path) -> AsyncIterator[Path]:
    """Make a work folder inside `root`, and remove it in the end, both in a thread."""
    folder = await asyncio.to_thread(work_folder, root)
    try:
        yield folder
    finally:
        await asyncio.shield(asyncio.to_thread(remove_folder, folder))


def work_folder(root: Path) -> Path:
    """Return a new folder inside `root`, and remove those whose process has ended."""
    root.mkdir(parents=True, exist_ok=True)
    for folder in root.iterdir():
        pid, _, rest = folder.name.partition("-")
        begun = rest.partition("-")[0]
        if pid.isdigit() and begun.isdigit() and _begun(pid) != begun:
            remove_folder(folder)
    own = str(os.getpid())
    return Path(tempfile.mkdtemp(prefix=f"{own}-{_begun(own)}-", dir=root)).resolve()


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


def _begun(pid: str) -> str:
    """Return when a process began, in clock ticks since the boot; empty if it does not exist.

    The number alone does not name a process: in a container that is started again, the new one has the old one's.
    """
    try:
        # The name in parentheses may hold spaces and parentheses itself; the 22nd field of proc_pid_stat(5).
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""
