"""Start a program that cannot outlive its parent: run as `python -I -S launch.py PARENT_PID SIGNAL USER -- COMMAND…`.

The kernel sends SIGNAL to the program when the thread that started it ends, even by `kill -9`. With USER `other` the
program does not run as root, as PostgreSQL requires: in a user namespace the caller's account appears under another
number, so files keep their owner and private parent directories stay accessible. If the kernel forbids namespaces, the
account is changed for real, with only the right to pass private directories kept.

This file only imports a few modules of the standard library, because it runs before each server and must be quick.
"""

import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CLONE_NEWUSER = 0x10000000
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def other_account() -> pwd.struct_passwd:
    """Return an account other than root; it must exist, because programs look up its name."""
    accounts = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    if not accounts:
        sys.exit(
            "This machine has no account other than root, and PostgreSQL refuses to run as root. "
            "Add an account, or point LATHE_DATABASE_URL at a server."
        )
    return min(accounts, key=lambda entry: (entry.pw_name not in ("postgres", "nobody"), entry.pw_uid))


def enter_namespace(account: pwd.struct_passwd) -> None:
    """Make this process appear as `account` to itself; raises OSError if the kernel forbids it."""
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWUSER), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{account.pw_uid} {uid} 1"),
        ("gid_map", f"{account.pw_gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def become(account: pwd.struct_passwd, directory: str) -> None:
    """Become `account`, the owner of all under `directory`, keeping only the right to pass closed directories."""
    for root, _, files in os.walk(directory):
        for path in (root, *(os.path.join(root, file) for file in files)):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    bit = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    _check(_libc.capset(header, sets), "capset")
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0), "ambient capability")


def appear_as_other_user(directory: str) -> None:
    """Change from root, or from an account without a name, for the program that follows."""
    account = other_account()
    try:
        enter_namespace(account)
    except OSError:
        if os.geteuid() != 0:
            sys.exit(
                "PostgreSQL cannot start, because this account has no name on this machine and user namespaces are not "
                "allowed."
            )
        become(account, directory)


def main(arguments: list[str]) -> None:
    """Prepare this process by the arguments and replace it with the program."""
    parent, signal, user = int(arguments[0]), int(arguments[1]), arguments[2]
    command = arguments[arguments.index("--") + 1 :]
    if user == "other":
        appear_as_other_user(os.getcwd())
    # Set last, because a change of account clears it.
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "parent death signal")
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
