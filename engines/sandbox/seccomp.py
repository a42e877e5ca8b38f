"""A seccomp filter: system calls that no engine needs and untrusted code must not have.

`socket` is on the list, so there is no network and no connection to a local service (a Docker or database socket)
even if namespaces are forbidden; `socketpair` is not, so asyncio and multiprocessing pipes work. io_uring is refused
because it would bypass both. Refused calls fail with EPERM. Needs no privilege beyond no_new_privs.

Landlock lets a process change modes, owners, times and attributes of any file that belongs to its user. If no mount is
read-only, the filter tells who asks that it is done, and nothing is: linkers and copies ask for it and can do without.
A program that is linked there cannot be run, which no engine does; a library can be loaded.
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


@dataclass(frozen=True)
class _Machine:
    audit_arch: int
    clone: int
    clone3: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 56, 435), "aarch64": _Machine(0xC00000B7, 220, 435)}
# Refused system calls with their numbers on x86_64 and aarch64.
_REFUSED = """
socket              41  198
acct               163   89
add_key            248  217
adjtimex           159  171
bpf                321  280
chroot             161   51
clock_adjtime      305  266
clock_settime      227  112
delete_module      176  106
finit_module       313  273
fsconfig           431  431
fsmount            432  432
fsopen             430  430
fspick             433  433
init_module        175  105
io_uring_enter     426  426
io_uring_register  427  427
io_uring_setup     425  425
ioperm             173    -
iopl               172    -
kcmp               312  272
kexec_file_load    320  294
kexec_load         246  104
keyctl             250  219
memfd_create       319  279
memfd_secret       447  447
mount              165   40
mount_setattr      442  442
move_mount         429  429
msgget              68  186
name_to_handle_at  303  264
open_by_handle_at  304  265
open_tree          428  428
perf_event_open    298  241
personality        135   92
pidfd_getfd        438  438
pivot_root         155   41
process_vm_readv   310  270
process_vm_writev  311  271
ptrace             101  117
quotactl           179   60
quotactl_fd        443  443
reboot             169  142
request_key        249  218
semget              64  190
sethostname        170  161
setns              308  268
settimeofday       164  170
shmget              29  194
swapoff            168  225
swapon             167  224
syslog             103  116
umount2            166   39
unshare            272   97
userfaultfd        323  282
"""
_PRETENDED = """
chmod               90    -
chown               92    -
fchmod              91   52
fchmodat           268   53
fchmodat2          452  452
fchown              93   55
fchownat           260   54
file_setattr       469  469
fremovexattr       199   16
fsetxattr          190    7
futimesat          261    -
lchown              94    -
lremovexattr       198   15
lsetxattr          189    6
removexattr        197   14
removexattrat      466  466
setxattr           188    5
setxattrat         463  463
utime              132    -
utimensat          280   88
utimes             235    -
"""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refused_calls(machine: str) -> dict[str, int]:
    """Return the names of the refused system calls with their numbers on a machine.

    Raises:
        ValueError: The machine is not in the table.
    """
    return _numbers(_REFUSED, machine)


def pretended_calls(machine: str) -> dict[str, int]:
    """Return the same of those that do nothing if no mount is read-only."""
    return _numbers(_PRETENDED, machine)


def _numbers(table: str, machine: str) -> dict[str, int]:
    column = 1 + list(_MACHINES).index(machine)
    rows = (line.split() for line in table.split("\n") if line)
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def program(machine: str, *, pretend: bool = False) -> bytes:
    """Return the filter for a machine (as `platform.machine()` names it) as classic BPF.

    Args:
        machine: The machine.
        pretend: Whether changes of modes, owners, times and attributes do nothing.

    Raises:
        KeyError: The system call numbers of this machine are unknown.
    """
    spec = _MACHINES[machine]
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
    for number in refused_calls(machine).values():
        instructions += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    for number in pretended_calls(machine).values() if pretend else ():
        instructions += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO)]
    instructions += [
        (_JUMP_EQUAL, 0, 3, spec.clone),
        (_LOAD, 0, 0, _OFFSET_ARGUMENT_0),
        (_JUMP_ANY_BIT, 0, 1, _NAMESPACE_FLAGS),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)


def enforce(*, pretend: bool = False) -> int:
    """Apply the filter to this thread and all that it starts, permanently; `pretend` is that of `program`.

    Returns:
        The number of refused system calls.

    Raises:
        OSError: The kernel has no seccomp filters, or this machine's numbers are unknown.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no system call table for {machine}")
    code = program(machine, pretend=pretend)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_char_p))
    syscalls.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(filter_))
    return len(refused_calls(machine))
