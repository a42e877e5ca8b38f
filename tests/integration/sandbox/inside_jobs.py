"""A hostile program, run as the code of a model is: it tries by system calls what no hook of Python sees.

Each attempt returns 0 if it succeeded, else the error number.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from engines.api.description import describe
from engines.sandbox import Reporter
from tests.integration.sandbox.hostile_jobs import read
from tests.unit.formats.hostile_programs import SOUND

Values = dict[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {
    # System calls without a function in the C library: x86_64, aarch64.
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "clone3": (435, 435),
    "memfd_secret": (447, 447),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "kexec_load": (246, 104),
    "mq_unlink": (241, 181),
}


def surround(request: Values, workdir: Path, report: Reporter) -> Values:
    """Make the attempts after a model was described, and again after one was read, in one process."""
    (name, case), *_ = ((name, case) for name, case in SOUND.items() if case.format == "ONNX")
    folder = workdir / "model"
    for path, data in case.write().items():
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / path).write_bytes(data if isinstance(data, bytes) else data.encode())
    describe({"format": "ONNX", "files": ["a.onnx", "w.bin"], "root": "model/source"}, workdir, report)
    described = attempt_all(request, workdir)
    read(folder, "ONNX")
    return {"describe": described, "read": attempt_all(request, workdir), "model": name}


def bare(request: Values, workdir: Path, _report: Reporter) -> Values:
    """Make the attempts without any model."""
    return {"bare": attempt_all(request, workdir)}


def attempt_all(request: Mapping[str, Any], workdir: Path) -> dict[str, int]:
    """Make each attempt once."""
    found = {}
    for name, attempt in _attempts(request, workdir).items():
        ctypes.set_errno(0)
        found[name] = ctypes.get_errno() if attempt() < 0 else 0
    return found


def _attempts(request: Mapping[str, Any], workdir: Path) -> dict[str, Callable[[], int]]:
    return {**_sockets(request), **_files(request, workdir), **_processes(request), **_kernel()}


def _call(name: str, *arguments: Any) -> int:
    number = _NUMBERS[name][os.uname().machine != "x86_64"]
    return int(_libc.syscall(ctypes.c_long(number), *arguments))


def _open(path: str | Path, flags: int = os.O_RDONLY) -> int:
    return int(_libc.open(os.fsencode(path), flags, 0o600))


def _sockets(request: Mapping[str, Any]) -> dict[str, Callable[[], int]]:
    def connect(family: int, address: bytes, kind: int = 1) -> int:
        made = _libc.socket(family, kind, 0)
        return int(made if made < 0 else _libc.connect(made, address, len(address)))

    def inet(port: int) -> bytes:
        return (2).to_bytes(2, "little") + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)

    local = (1).to_bytes(2, "little")
    return {
        "connect to a TCP port of the machine": lambda: connect(2, inet(request["tcp_port"])),
        "send by UDP": lambda: connect(2, inet(9), kind=2),
        "connect to a unix socket": lambda: connect(1, local + os.fsencode(request["unix_socket"]) + b"\0"),
        "connect to an abstract socket": lambda: connect(1, local + b"\0" + request["abstract"].encode()),
        "listen to the kernel": lambda: connect(16, (16).to_bytes(2, "little") + bytes(10), kind=3),
        "make raw packets": lambda: int(_libc.socket(17, 3, 0)),
    }


def _files(request: Mapping[str, Any], workdir: Path) -> dict[str, Callable[[], int]]:
    secret, write = request["other_task"] + "/secret", os.O_WRONLY | os.O_CREAT
    encoded = os.fsencode(secret)
    package = Path(sysconfig.get_paths()["purelib"])
    mine = os.fsencode(workdir / "mine")
    return {
        "read a file of another task": lambda: _open(secret),
        "list the folder of another task": lambda: _open(request["other_task"], os.O_RDONLY | os.O_DIRECTORY),
        "write a file of another task": lambda: _open(secret, os.O_WRONLY),
        "make a file beside another task's": lambda: _open(request["other_task"] + "/new", write),
        "remove a file of another task": lambda: int(_libc.unlink(encoded)),
        "truncate a file of another task": lambda: int(_libc.truncate(encoded, ctypes.c_long(0))),
        "link a file of another task": lambda: int(_libc.link(encoded, mine)),
        "move a file of another task": lambda: int(_libc.rename(encoded, mine)),
        "change the mode of another task's file": lambda: _change(secret, lambda: _libc.chmod(encoded, 0o666)),
        "change the owner of another task's file": lambda: _change(
            secret, lambda: _libc.chown(encoded, os.getuid(), os.getgid())
        ),
        "change the times of another task's file": lambda: _change(secret, lambda: _libc.utimes(encoded, None)),
        "name an attribute of another task's file": lambda: _change(
            secret, lambda: _libc.setxattr(encoded, b"user.a", b"1", 1, 0)
        ),
        "read by a link to another task's file": lambda: _by_link(secret, workdir),
        "write a module of the interpreter": lambda: _open(os.path.realpath(os.__file__), os.O_WRONLY),
        "write into the installed packages": lambda: _open(package / "hostile.pth", write),
        "write into the engines": lambda: _open(Path(request["engines"]) / "hostile.py", write),
        "change the mode of a file that it may read": lambda: _change(
            request["readable"], lambda: _libc.fchmod(_open(request["readable"]), 0o644)
        ),
        "write to the home": lambda: _open(request["home"] + "/.hostile", write),
        "write to shared memory": lambda: _open("/dev/shm/hostile", write),
        "write to the temporary folder": lambda: _open("/tmp/hostile", write),
        "say what a crash runs": lambda: _open("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "allow itself core dumps": lambda: _raise_limit(resource.RLIMIT_CORE),
        "allow itself more handles": lambda: _raise_limit(resource.RLIMIT_NOFILE),
        "make a device": lambda: int(_libc.mknod(mine, 0o20666, os.makedev(1, 1))),
        "read the memory of the machine": lambda: _open("/dev/mem"),
        "read the disk": lambda: _open("/dev/vda"),
        "leave its own control group": lambda: _open("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY),
    }


def _change(path: str, call: Callable[[], int]) -> int:
    """Return 0 if a call has changed a file; some calls are told that they have, and have not."""
    before = os.stat(path).st_ctime_ns if path else 0
    if call() < 0:
        return -1
    if path and os.stat(path).st_ctime_ns == before:
        ctypes.set_errno(errno.EPERM)
        return -1
    return 0


def _by_link(target: str, workdir: Path) -> int:
    link = workdir / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    return _open(link)


def _raise_limit(kind: int) -> int:
    soft, hard = resource.getrlimit(kind)
    try:
        resource.setrlimit(kind, (soft, hard + 1))
    except (ValueError, OSError):
        ctypes.set_errno(errno.EPERM)
        return -1
    return 0


def _processes(request: Mapping[str, Any]) -> dict[str, Callable[[], int]]:
    parent = request["parent"]
    proc = f"/proc/{parent}"
    return {
        "read the parent's environment": lambda: _open(f"{proc}/environ"),
        "read the parent's memory": lambda: _open(f"{proc}/mem"),
        "list the parent's handles": lambda: _open(f"{proc}/fd", os.O_RDONLY | os.O_DIRECTORY),
        "see the parent's root": lambda: _open(os.path.join(proc, "root", "etc", "shadow")),
        "see the parent's folder": lambda: _open(f"{proc}/cwd", os.O_RDONLY | os.O_DIRECTORY),
        "read the environment of its supervisor": lambda: _open(f"/proc/{os.getppid()}/mem", os.O_RDWR),
        "trace its supervisor": lambda: int(_libc.ptrace(16, os.getppid(), None, None)),
        "signal the parent": lambda: int(_libc.kill(parent, 0)),
        "end its supervisor": lambda: int(_libc.kill(os.getppid(), signal.SIGKILL)),
        "signal the parent by a handle": lambda: _call("pidfd_send_signal", _call("pidfd_open", parent, 0), 0, None, 0),
        "read memory of the parent": lambda: int(_libc.process_vm_readv(parent, None, 0, None, 0, 0)),
        "come before others": lambda: int(_libc.setpriority(0, 0, -20)),
        "be scheduled in real time": lambda: int(_libc.sched_setscheduler(0, 1, ctypes.byref(ctypes.c_int(1)))),
        "become another user": lambda: int(_libc.setresuid(12345, 12345, 12345)),
    }


def _kernel() -> dict[str, Callable[[], int]]:
    def spawn() -> int:
        """Ask for a process in a user namespace of its own, by the older call."""
        made = int(_libc.syscall(ctypes.c_long(56 if os.uname().machine == "x86_64" else 220), 0x10000000 | 17, 0))
        if made == 0:
            os._exit(0)  # the new process
        return made

    return {
        "make a user namespace": lambda: int(_libc.unshare(0x10000000)),
        "make a process in a user namespace": spawn,
        "enter a namespace": lambda: int(_libc.setns(_open("/proc/self/ns/net"), 0)),
        "mount": lambda: int(_libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
        "make mounts writable": lambda: _call(
            "mount_setattr", -100, b"/", 0x8000, (ctypes.c_uint64 * 4)(0, 1, 0, 0), 32
        ),
        "change its root": lambda: int(_libc.chroot(b".")),
        "keep a key": lambda: _call("add_key", b"user", b"hostile", b"1", 1, -3),
        "find a key": lambda: _call("request_key", b"user", b"hostile", None, 0),
        "join a keyring": lambda: _call("keyctl", 1, None),
        "run code in the kernel": lambda: _call("bpf", 0, None, 0),
        "use io_uring": lambda: _call("io_uring_setup", 1, (ctypes.c_uint32 * 30)()),
        "watch the machine": lambda: _call("perf_event_open", None, 0, -1, -1, 0),
        "stop the kernel at a page": lambda: _call("userfaultfd", 0),
        "hide memory": lambda: _call("memfd_secret", 0),
        "name a file by its handle": lambda: _call("name_to_handle_at", -100, b"/", None, None, 0),
        "load another kernel": lambda: _call("kexec_load", 0, 0, None, 0),
        "set the clock": lambda: int(_libc.settimeofday((ctypes.c_long * 2)(1, 0), None)),
        "name the machine": lambda: int(_libc.sethostname(b"hostile", 7)),
        "share System V memory": lambda: int(_libc.shmget(1, ctypes.c_size_t(4096), 0o1666)),
        "make a message queue": lambda: int(_libc.msgget(1, 0o1666)),
    }


def take_handles(_request: Values, _workdir: Path, _report: Reporter) -> Values:
    """Open files until there is no handle left."""
    held: list[int] = []
    try:
        while len(held) < 1 << 20:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return {"held": len(held), "errno": error.errno}
    return {"held": len(held)}


def take_threads(_request: Values, _workdir: Path, _report: Reporter) -> Values:
    """Start threads until that fails, and let them live."""
    threading.stack_size(64 << 10)
    with suppress(RuntimeError):
        for _ in range(20_000):
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    time.sleep(600)
    return {}


def hear_nothing(_request: Values, _workdir: Path, report: Reporter) -> Values:
    """Ignore every signal that can be ignored, set timers, and never end."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    report.progress(0.5, "deaf")
    while True:
        time.sleep(0.01)


def fill_disk(request: Values, workdir: Path, _report: Reporter) -> Values:
    """Write without end."""
    written, block = 0, bytes(1 << 20)
    with (workdir / "full").open("wb") as file:
        if not request["named"]:
            (workdir / "full").unlink()
        while written < request["bytes"]:
            written += file.write(block)
        file.flush()
        time.sleep(600)
    return {}


_NOTHING = {
    "tcp_port": 0,
    "unix_socket": "",
    "abstract": "",
    "other_task": "",
    "home": "",
    "engines": "",
    "parent": 0,
    "readable": "",
}
ATTEMPTS = list(_attempts(_NOTHING, Path()))
"""Their names."""
