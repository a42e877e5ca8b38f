"""Starts the child process with its pipes and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.sandbox.environment import child_environment, make_private_folders
from engines.sandbox.paths import engines_root


@dataclass(frozen=True)
class Handles:
    """A started process, its resolved paths, and the parent's ends of its pipes, as descriptors."""

    workdir: Path
    readable: tuple[Path, ...]
    process: subprocess.Popen[bytes]
    requests: int
    control: int
    log: int
    status: int


def launch(workdir: Path, preload: Sequence[str], readable: Sequence[Path], devices: Sequence[str] = ()) -> Handles:
    """Start a child in a session of its own.

    It inherits the far ends of four pipes and no other descriptor: requests (to the child), control, status, and one
    for both stdout and stderr. Its environment is that of `child_environment`.

    Args:
        workdir: Its work directory; created if absent.
        preload: Modules to import.
        readable: Further paths that it may read.
        devices: Patterns of the files of accelerators that it may use.
    """
    workdir, readable = workdir.resolve(), tuple(path.resolve() for path in readable)
    workdir.mkdir(parents=True, exist_ok=True)
    make_private_folders(workdir)
    ends: list[int] = []
    try:
        for _ in range(4):
            ends += os.pipe()
        requests_there, requests, control, control_there, log, log_there, status, status_there = ends
        configuration = {
            "parent": os.getpid(),
            "workdir": str(workdir),
            "preload": list(preload),
            "readable": [str(path) for path in readable],
            "devices": list(devices),
            "requests": requests_there,
            "control": control_there,
            "status": status_there,
        }
        process = subprocess.Popen(
            # -P: a module is never taken from the work directory, whatever its name.
            [sys.executable, "-P", "-m", "engines.sandbox.child", json.dumps(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log_there,
            stderr=log_there,
            pass_fds=(requests_there, control_there, status_there),
            cwd=workdir,
            env=child_environment(workdir, engines_root()),
            start_new_session=True,
        )
    except BaseException:
        for end in ends:
            os.close(end)
        raise
    for end in (requests_there, control_there, log_there, status_there):
        os.close(end)
    return Handles(workdir, readable, process, requests, control, log, status)
