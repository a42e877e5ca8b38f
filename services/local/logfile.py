"""Log files of child processes: limited in size, read from their end."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
KEEP = 3


def prepare_log(path: Path) -> None:
    """Create the folder of a log, and rotate the log if it is too long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rotate(path)


def rotate(path: Path, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> bool:
    """Move a log longer than `max_bytes` to `path.1` (and that to `path.2` …) and empty it; return whether it was done.

    The file is copied and emptied in place, because its writer keeps it open in append mode and continues at its end.
    """
    if not path.exists() or path.stat().st_size <= max_bytes:
        return False
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int) -> list[str]:
    """Return the last `lines` lines of a file, or none if it does not exist."""
    if lines <= 0 or not path.exists():
        return []
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        block = b""
        while position > 0 and block.count(b"\n") <= lines:
            step = min(position, 64 * 1024)
            position -= step
            file.seek(position)
            block = file.read(step) + block
    return block.decode(errors="replace").splitlines()[-lines:]
