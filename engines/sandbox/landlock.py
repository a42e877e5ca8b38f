"""Landlock: kernel rules for the files that this process may access.

Needs no privilege. ABI 1 (Linux 5.13) confines files; 2 adds moving between directories, 3 truncation, 4 TCP, 5 device
ioctls, 6 signals and abstract sockets; 7 only adds logging. See landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from engines.sandbox import syscalls

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15

READ = EXECUTE | READ_FILE | READ_DIR
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEV
_LAST_BIT = {1: 12, 2: 13, 3: 14, 4: 14, 5: 15}
_NET_BIND_TCP, _NET_CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Return the Landlock ABI of the running kernel.

    Raises:
        OSError: The kernel has no Landlock, or it is switched off.
    """
    return syscalls.call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION_FLAG))


def handled_rights(version: int) -> int:
    """Return every right on files that ABI `version` can refuse, as a bit mask."""
    return (1 << (_LAST_BIT.get(version, 15) + 1)) - 1


class Ruleset:
    """Rules under construction; everything that no rule allows is refused."""

    def __init__(self, version: int | None = None) -> None:
        """Start a ruleset that refuses all that ABI `version` (default: the kernel's) can refuse; raises OSError."""
        self.version = abi() if version is None else version
        self._handled = handled_rights(self.version)
        attributes = [self._handled]
        if self.version >= 4:
            attributes.append(_NET_BIND_TCP | _NET_CONNECT_TCP)
        if self.version >= 6:
            attributes.append(_SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)
        array = (ctypes.c_uint64 * len(attributes))(*attributes)
        self._fd = syscalls.call(_CREATE_RULESET, array, ctypes.c_size_t(ctypes.sizeof(array)), ctypes.c_uint(0))
        self._pinned: list[int] = []

    def allow_read(self, paths: Iterable[str | Path]) -> None:
        """Allow reading and executing at and beneath each path; those that do not exist are skipped."""
        self._allow(paths, READ)

    def allow_list(self, paths: Iterable[str | Path]) -> None:
        """Allow listing directories at and beneath each path, not reading the files in them."""
        self._allow(paths, READ_DIR)

    def allow_devices(self, paths: Iterable[str | Path]) -> None:
        """Allow reading, writing and controlling devices at and beneath each path."""
        self._allow(paths, READ_FILE | READ_DIR | WRITE_FILE | _TRUNCATE | _IOCTL_DEV)

    def allow_all(self, path: Path) -> None:
        """Allow everything at and beneath `path` except making device nodes."""
        self._allow([path], self._handled & ~(_MAKE_CHAR | _MAKE_BLOCK))

    def enforce(self) -> None:
        """Apply the rules to this thread and all that it starts, permanently; raises OSError.

        Needs no_new_privs. The descriptors of the allowed paths stay open: a rule on procfs lasts only as long as its
        inode is held.
        """
        syscalls.call(_RESTRICT_SELF, ctypes.c_int(self._fd), ctypes.c_uint(0))
        os.close(self._fd)

    def _allow(self, paths: Iterable[str | Path], rights: int) -> None:
        for path in paths:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            allowed = rights & self._handled
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                allowed &= _FILE_RIGHTS
            try:
                rule = _PathBeneath(allowed, fd)
                syscalls.call(
                    _ADD_RULE,
                    ctypes.c_int(self._fd),
                    ctypes.c_int(_RULE_PATH_BENEATH),
                    ctypes.byref(rule),
                    ctypes.c_uint(0),
                )
            finally:
                self._keep_or_close(fd, str(path))

    def _keep_or_close(self, fd: int, path: str) -> None:
        if path.startswith("/proc/self"):
            self._pinned.append(fd)
        else:
            os.close(fd)
