"""The filter is run here in an interpreter of classic BPF, so that every machine's table is tested on any machine."""

from __future__ import annotations

import errno
import struct

import pytest

from engines.sandbox import seccomp

ALLOW, DENY, MISSING = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
X86, ARM = 0xC000003E, 0xC00000B7


def decide(machine: str, number: int, arch: int, argument: int = 0, *, pretend: bool = False) -> int:
    code = seccomp.program(machine, pretend=pretend)
    data = struct.pack("<IIQQ", number, arch, 0, argument)
    at, value = 0, 0
    while True:
        operation, if_true, if_false, operand = struct.unpack_from("<HBBI", code, at * 8)
        at += 1
        match operation:
            case 0x20:
                value = struct.unpack_from("<I", data, operand)[0]
            case 0x15:
                at += if_true if value == operand else if_false
            case 0x35:
                at += if_true if value >= operand else if_false
            case 0x45:
                at += if_true if value & operand else if_false
            case 0x06:
                return int(operand)


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", X86), ("aarch64", ARM)])
def test_every_call_in_the_table_is_refused(machine: str, arch: int) -> None:
    calls = seccomp.refused_calls(machine)
    assert {"socket", "io_uring_setup", "ptrace", "unshare", "memfd_create"} <= set(calls)
    assert all(decide(machine, number, arch) == DENY for number in calls.values())


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", X86), ("aarch64", ARM)])
def test_changes_of_modes_do_nothing_if_that_is_asked_for(machine: str, arch: int) -> None:
    calls = seccomp.pretended_calls(machine)
    assert {"fchmod", "fchownat", "utimensat", "fsetxattr"} <= set(calls)
    assert all(decide(machine, number, arch, pretend=True) == 0x50000 for number in calls.values())
    assert all(decide(machine, number, arch) == ALLOW for number in calls.values())


@pytest.mark.parametrize(("machine", "arch", "read", "clone"), [("x86_64", X86, 0, 56), ("aarch64", ARM, 63, 220)])
def test_ordinary_calls_pass(machine: str, arch: int, read: int, clone: int) -> None:
    assert decide(machine, read, arch) == ALLOW
    assert decide(machine, clone, arch, argument=0x3D0F00) == ALLOW  # what pthread_create asks for
    assert decide(machine, 449, arch) == ALLOW


@pytest.mark.parametrize("flag", [0x20000, 0x10000000, 0x20000000, 0x40000000])
def test_clone_makes_no_namespace_and_clone3_does_not_exist(flag: int) -> None:
    assert decide("x86_64", 56, X86, argument=flag | 17) == DENY
    assert decide("aarch64", 220, ARM, argument=flag | 17) == DENY
    assert decide("x86_64", 435, X86) == MISSING


def test_other_system_call_tables_of_the_same_kernel_are_closed() -> None:
    assert decide("x86_64", 0, 0x40000003) == DENY  # 32-bit
    assert decide("x86_64", 0x40000000, X86) == DENY  # x32
