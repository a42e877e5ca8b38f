"""The layers that the worker process enables for itself: capabilities, Landlock, seccomp, resource limits."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

from engines.sandbox import landlock, paths, seccomp, syscalls
from engines.sandbox.types import Layer

MAX_FILE_BYTES = 64 << 30
MAX_OPEN_FILES = 4096
MAX_TASKS = 2048
_DATA_SLACK = 4 << 30


def apply(
    layers: dict[str, Layer], workdir: Path, readable: Sequence[str], devices: Sequence[str], *, own_proc: bool
) -> None:
    """Enable every layer that needs no privilege and note each in `layers`.

    Must run before any thread is started.
    """
    _limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _limit(resource.RLIMIT_NPROC, _tasks_of_user() + MAX_TASKS)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    layers["capabilities"] = _attempt(_drop_capabilities)
    layers["landlock"] = _attempt(lambda: _landlock(workdir, readable, devices, own_proc=own_proc))
    pretend = not layers["mount_namespace"].active
    layers["seccomp"] = _attempt(lambda: _seccomp(pretend=pretend))


def limit_memory(memory_bytes: int) -> None:
    """Let allocations far beyond a job's memory limit fail immediately, instead of when they are touched.

    RLIMIT_DATA counts private writable memory, reserved or used, but not mappings without access. It is generous: twice
    the limit, at least 4 GiB more. The parent watches the memory that is really used.
    """
    _limit(resource.RLIMIT_DATA, _data_bytes() + max(2 * memory_bytes, memory_bytes + _DATA_SLACK))


def _landlock(workdir: Path, readable: Sequence[str], devices: Sequence[str], *, own_proc: bool) -> str:
    rules = landlock.Ruleset()
    rules.allow_read(paths.readable_system_paths())
    rules.allow_read(paths.code_roots(Path(path) for path in readable))
    # To find `engines`, Python lists its parent directory.
    rules.allow_list([paths.engines_root()])
    rules.allow_read(paths.readable_proc_paths(own_proc=own_proc))
    rules.allow_devices(paths.device_paths(devices))
    rules.allow_all(workdir)
    rules.enforce()
    extras = ["files"] + ["TCP"] * (rules.version >= 4) + ["signals and abstract sockets"] * (rules.version >= 6)
    return f"ABI {rules.version}: {', '.join(extras)}"


def _seccomp(*, pretend: bool) -> str:
    refused = f"{seccomp.enforce(pretend=pretend)} system calls refused, socket among them"
    return f"{refused}; files keep their modes and owners" if pretend else refused


def _drop_capabilities() -> str:
    syscalls.drop_capabilities()
    return "none, and none to be gained"


def _attempt(layer: Callable[[], str]) -> Layer:
    try:
        return Layer(True, layer())
    except OSError as error:
        return Layer(False, str(error.strerror))


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bounded, bounded))


def _tasks_of_user() -> int:
    """Count the threads of this user: RLIMIT_NPROC counts those of other programs too."""
    total = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                total += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue  # It ended meanwhile.
    return total


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
