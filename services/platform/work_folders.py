"""Work folders. What a killed process left behind is removed when another process makes a folder there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def work_folder(root: Path) -> Path:
    """Return a new folder inside `root`, and remove those whose process has ended."""
    root.mkdir(parents=True, exist_ok=True)
    for folder in root.iterdir():
        pid, _, rest = folder.name.partition("-")
        begun = rest.partition("-")[0]
        if pid.isdigit() and begun.isdigit() and _begun(pid) != begun:
            shutil.rmtree(folder, ignore_errors=True)
    own = str(os.getpid())
    return Path(tempfile.mkdtemp(prefix=f"{own}-{_begun(own)}-", dir=root)).resolve()


def _begun(pid: str) -> str:
    """Return when a process began, in clock ticks since the boot; empty if it does not exist.

    The number alone does not name a process: in a container that is started again, the new one has the old one's.
    """
    try:
        # The name in parentheses may hold spaces and parentheses itself; the 22nd field of proc_pid_stat(5).
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""
