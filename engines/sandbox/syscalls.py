"""The few kernel calls that Python 3.11 does not offer, through the C library."""

from __future__ import annotations

import ctypes
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18

_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_CAPABILITY_VERSION_3 = 0x20080522

_SA_ONSTACK = 0x08000000


class _SignalAction(ctypes.Structure):
    """`struct sigaction` of the C library."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * (1024 // (8 * ctypes.sizeof(ctypes.c_ulong)))),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def call(number: int, *arguments: object) -> int:
    """Make a system call by number.

    Raises:
        OSError: The kernel refused.
    """
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def prctl(option: int, *arguments: int) -> int:
    """Make the system call of this name; raises OSError."""
    padded = (*arguments, *(0 for _ in range(4 - len(arguments))))
    return _checked(_libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)))


def end_with(parent: int) -> None:
    """Let this process be killed when its parent ends; exit immediately if the parent has ended already."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def handle_on_usual_stack(number: int) -> None:
    """Run the handler of a signal on the stack of the interrupted thread; raises OSError.

    Python uses the thread's alternate stack. OpenVINO's CPU plug-in (2026.4) installs one in the thread that creates a
    `Core`, unmaps it when that `Core` is destroyed, and if two are not destroyed in reverse order of their creation,
    installs the unmapped one again: the next handler that uses it ends the process by SIGSEGV, or writes into memory
    that has been mapped there since.
    """
    action = _SignalAction()
    _checked(_libc.sigaction(number, None, ctypes.byref(action)))
    action.flags &= ~_SA_ONSTACK
    _checked(_libc.sigaction(number, ctypes.byref(action), None))


def unshare(flags: int) -> None:
    """Make the system call of this name; raises OSError."""
    _checked(_libc.unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """Make the system call of this name; raises OSError."""
    kind_bytes = kind.encode() if kind else None
    _checked(_libc.mount(source.encode(), os.fsencode(target), kind_bytes, ctypes.c_ulong(flags), None))


def set_read_only(path: str, read_only: bool, *, recursive: bool = False) -> None:
    """Make the mount at `path` read-only or writable, with everything mounted under it if asked; raises OSError."""
    set_bits, clear_bits = (_MOUNT_ATTR_RDONLY, 0) if read_only else (0, _MOUNT_ATTR_RDONLY)
    attributes = (ctypes.c_uint64 * 4)(set_bits, clear_bits, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    call(
        _SYS_MOUNT_SETATTR,
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(path),
        ctypes.c_uint(flags),
        attributes,
        ctypes.c_size_t(32),
    )


def drop_capabilities() -> None:
    """Drop every capability, for this process and the programs that it executes; raises OSError."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # Past the last capability this kernel knows, or not allowed to (then there are none to drop).
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)()))


def flush_stdio() -> None:
    """Flush the output buffers of C and C++ libraries."""
    _libc.fflush(None)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
