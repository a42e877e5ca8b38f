"""The disk that a job shares with others: how much is left, and how much of it the job holds."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engines.sandbox.processes import descendants

_LEAST_FREE_BYTES = 1 << 30
_LEAST_FREE_SHARE = 20
_BLOCK = 512


def free(workdir: Path) -> int:
    """Return the bytes that are left on the disk of a folder."""
    return shutil.disk_usage(workdir).free


def is_short(workdir: Path) -> bool:
    """Whether less than 1 GiB and less than a twentieth of the disk of a folder is left."""
    usage = shutil.disk_usage(workdir)
    return usage.free < min(_LEAST_FREE_BYTES, usage.total // _LEAST_FREE_SHARE)


def held(workdir: Path, root: int) -> int:
    """Return the bytes of a work directory, and of files without a name that processes under `root` hold open.

    If a folder in it cannot be looked into, as its mode forbids it or its path is too long, all that is on the disk
    counts.
    """
    try:
        return sum(_named(workdir)) + sum(_nameless(root))
    except OSError:
        return shutil.disk_usage(workdir).used


def _named(workdir: Path) -> Iterator[int]:
    """Yield the bytes of each file; `os.walk` would need a frame for each level of folders."""
    folders = [os.fspath(workdir)]
    while folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:  # gone meanwhile
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        yield entry.stat(follow_symlinks=False).st_blocks * _BLOCK


def _nameless(root: int) -> Iterator[int]:
    for pid in descendants(root):
        with suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    found = os.stat(f"/proc/{pid}/fd/{name}")
                    if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                        yield found.st_blocks * _BLOCK
