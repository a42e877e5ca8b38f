"""Namespaces: no network devices, no other processes, and a file system that is read-only outside the work directory.

As root they are entered directly, otherwise inside a user namespace, if the machine permits one.
"""

from __future__ import annotations

import os
from pathlib import Path

from engines.sandbox import syscalls
from engines.sandbox.types import Layer

_KINDS = {
    "network_namespace": (syscalls.CLONE_NEWNET, "no network device"),
    "pid_namespace": (syscalls.CLONE_NEWPID, "other processes do not exist; all die with the first"),
    "ipc_namespace": (syscalls.CLONE_NEWIPC, "no shared System V memory"),
    "mount_namespace": (syscalls.CLONE_NEWNS, "own mounts"),
}
_MAX_TASKS = 4096
_PID_MAX_PER_NAMESPACE_SINCE = (6, 14)


def enter() -> dict[str, Layer]:
    """Enter as many namespaces as the machine permits and return them.

    The process must have a single thread. The PID namespace begins with its next child.
    """
    layers: dict[str, Layer] = {}
    if not _permitted(syscalls.CLONE_NEWNET) and _permitted(syscalls.CLONE_NEWUSER, syscalls.CLONE_NEWNET):
        _enter_user_namespace()
        layers["user_namespace"] = Layer(True, "own capabilities, none outside")
    for name, (flag, meaning) in _KINDS.items():
        try:
            syscalls.unshare(flag)
            layers[name] = Layer(True, meaning)
        except OSError as error:
            layers[name] = Layer(False, str(error.strerror))
    return layers


def confine_mounts(workdir: Path) -> str:
    """Make everything but the work directory read-only; must run inside the new mount namespace.

    Returns:
        The description of the layer.

    Raises:
        OSError: The kernel refused (before Linux 5.12, or a hardened container).
    """
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount(str(workdir), str(workdir), None, syscalls.MS_BIND)
    syscalls.set_read_only("/", True, recursive=True)
    syscalls.set_read_only(str(workdir), False)
    # The working directory still refers to the mount beneath the new one.
    os.chdir(workdir)
    return "read-only outside the work directory"


def mount_own_proc() -> None:
    """Mount a /proc that shows only the processes of this PID namespace; raises OSError.

    Must run in the first process of the PID namespace, before `confine_mounts`.
    """
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", "/proc", "proc", flags)


def bound_tasks() -> Layer:
    """Limit the processes and threads of this PID namespace; needs its own /proc.

    Older kernels have only one limit for the whole machine, which stays unchanged.
    """
    if _kernel_version() < _PID_MAX_PER_NAMESPACE_SINCE:
        return Layer(False, "this kernel has no limit per PID namespace; the parent counts processes")
    try:
        Path("/proc/sys/kernel/pid_max").write_text(str(_MAX_TASKS))
    except OSError as error:
        return Layer(False, str(error.strerror))
    return Layer(True, f"at most {_MAX_TASKS} processes and threads")


def _kernel_version() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)


def _permitted(*flags: int) -> bool:
    """Try it in a separate process, so that a partial success has no effect."""
    pid = os.fork()
    if pid == 0:
        try:
            for flag in flags:
                if flag == syscalls.CLONE_NEWUSER:
                    _enter_user_namespace()
                else:
                    syscalls.unshare(flag)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _enter_user_namespace() -> None:
    """Enter a user namespace in which the user keeps its id; raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
