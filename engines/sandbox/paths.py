"""The files outside its work directory that a child may read."""

from __future__ import annotations

import glob
import os
import pwd
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from engines.sandbox.environment import TOOLS

_SYSTEM = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt/intel",
    "/opt/nvidia",
    "/opt/rocm",
    "/opt/ascend",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/os-release",
    "/etc/lsb-release",
    "/etc/debian_version",
    "/etc/alternatives",
    "/etc/OpenCL",
    "/etc/vulkan",
    "/etc/mime.types",
    "/etc/inputrc",
    "/etc/locale.alias",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs",
    "/etc/python3.11",
    "/etc/Ascend",
    "/etc/ascend_install.info",
    "/etc/gnutls",
    "/etc/host.conf",
    "/sys/devices",
    "/sys/fs/cgroup",
    "/sys/bus",
    "/sys/class",
    "/sys/block",
    "/sys/kernel/mm",
    "/sys/module",
]
_PROC_SHARED = [
    "cpuinfo",
    "meminfo",
    "stat",
    "version",
    "filesystems",
    "uptime",
    "loadavg",
    "devices",
    "modules",
    "vmstat",
    "zoneinfo",
    "cgroups",
    "driver",
    "sys/kernel",
    "sys/vm",
    "sys/fs",
    "sys/crypto",
    "sys/dev",
]
_DEVICES = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
]


def engines_root() -> Path:
    """Return the directory that holds the `engines` package."""
    return Path(__file__).resolve().parents[2]


def code_roots(readable: Iterable[Path] = ()) -> list[Path]:
    """Return the directories whose code is trusted: Python, its packages, the engines, tools, and `readable`."""
    root = engines_root()
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    # Another entry of sys.path (an editable install, a folder of packages) counts, unless it holds the engines' whole
    # repository or is wide enough to hold someone's home.
    listed = {entry for entry in sys.path if os.path.isdir(entry) and not _too_wide(Path(entry), root)}
    tools = [Path(folder) for name in TOOLS if (folder := os.environ.get(name))]
    return [*sorted(Path(entry) for entry in prefixes | listed), root / "engines", *tools, *readable]


def readable_system_paths() -> list[str]:
    """Return the existing system directories and files that a child may read."""
    return [path for path in _SYSTEM if os.path.exists(path)]


def readable_proc_paths(*, own_proc: bool) -> list[str]:
    """Return the parts of /proc that a child may read: all of its own, or itself and the machine's figures."""
    return ["/proc"] if own_proc else ["/proc/self", *(f"/proc/{name}" for name in _PROC_SHARED)]


def device_paths(accelerators: Sequence[str] = ()) -> list[str]:
    """Return the device files that a child may use: the harmless ones, and those that patterns of accelerators name."""
    return [path for pattern in (*_DEVICES, *accelerators) for path in glob.glob(pattern)]


def _too_wide(entry: Path, engines: Path) -> bool:
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir).resolve()
    except KeyError:
        home = Path("/root")
    resolved = entry.resolve()
    return resolved in (engines, home, Path("/"), Path("/tmp")) or resolved in home.parents  # noqa: S108
