"""A seccomp filter: system calls that no engine needs and untrusted code must not have.

`socket` is on the list, so there is no network and no connection to a local service (a Docker or database socket)
even where namespaces are forbidden; `socketpair` is not, so asyncio and multiprocessing pipes work. io_uring is refused
since it would reach both from the side. Refused calls fail with EPERM. Needs no privilege beyond no_new_privs.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from dataclasses import dataclass

from engines.sandbox import syscalls

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENT_0 = 0, 4, 16
_X32_BIT = 0x40000000
# CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}
_NAMESPACE_FLAGS = 0x80 | 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000

_COMMON = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442,
    "quotactl_fd": 443, "memfd_secret": 447,
}  # fmt: skip


@dataclass(frozen=True)
class _Machine:
    audit_arch: int
    clone: int
    clone3: int
    refused: dict[str, int]


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 56, 435, {
        "socket": 41, "ptrace": 101, "syslog": 103, "personality": 135, "pivot_root": 155, "acct": 163,
        "settimeofday": 164, "adjtimex": 159, "chroot": 161, "mount": 165, "umount2": 166, "swapon": 167,
        "swapoff": 168, "reboot": 169, "sethostname": 170, "init_module": 175, "delete_module": 176, "quotactl": 179,
        "clock_settime": 227, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
        "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
        "memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "shmget": 29, "semget": 64, "msgget": 68, "iopl": 172, "ioperm": 173,
    }),
    "aarch64": _Machine(0xC00000B7, 220, 435, {
        "socket": 198, "ptrace": 117, "syslog": 116, "personality": 92, "pivot_root": 41, "acct": 89,
        "settimeofday": 170, "adjtimex": 171, "chroot": 51, "mount": 40, "umount2": 39, "swapon": 224,
        "swapoff": 225, "reboot": 142, "sethostname": 161, "init_module": 105, "delete_module": 106,
        "quotactl": 60, "clock_settime": 112, "kexec_load": 104, "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97, "perf_event_open": 241,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "memfd_create": 279, "kexec_file_load": 294,
        "bpf": 280, "userfaultfd": 282, "shmget": 194, "semget": 190, "msgget": 186,
    }),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def program(machine: str) -> bytes:
    """Return the filter for a machine (as `platform.machine()` names it) as classic BPF.

    Raises:
        KeyError: The system call numbers of this machine are not known here.
    """
    spec = _MACHINES[machine]
    refused = sorted({*spec.refused.values(), *_COMMON.values()})
    instructions = [
        (_LOAD, 0, 0, _OFFSET_ARCH),
        (_JUMP_EQUAL, 1, 0, spec.audit_arch),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),  # 32-bit calls have other numbers
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        # The C library falls back to clone, whose flags a filter can see.
        (_JUMP_EQUAL, 0, 1, spec.clone3),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for number in refused:
        instructions += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    instructions += [
        (_JUMP_EQUAL, 0, 3, spec.clone),
        (_LOAD, 0, 0, _OFFSET_ARGUMENT_0),
        (_JUMP_ANY_BIT, 0, 1, _NAMESPACE_FLAGS),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)


def enforce() -> int:
    """Put the filter on this thread and all that it starts, for good.

    Returns:
        How many system calls are refused.

    Raises:
        OSError: The kernel has no seccomp filters, or this machine's numbers are not known.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no system call table for {machine}")
    code = program(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_char_p))
    syscalls.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(filter_))
    return len(_MACHINES[machine].refused) + len(_COMMON)
