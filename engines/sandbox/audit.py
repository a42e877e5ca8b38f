"""Explains forbidden attempts of a model's code: a Python audit hook names the attempt, the file and the line.

The hook is not a boundary. Code that knows Python can avoid it; the kernel layers then refuse silently. With the hook,
common attempts fail the job with a message that a person can act on, whatever the code does afterwards: the parent
learns of the violation before the exception is raised.

Frameworks load libraries and start compilers legitimately, so an attempt counts only if the innermost frame outside the
standard library belongs to untrusted code: a file in the work directory, or outside the trusted directories.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from engines.failures import EngineFailure, FailureReason

Report = Callable[[EngineFailure], None]

_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HARMLESS_TARGETS = ("/dev/null", "/dev/full", "/dev/zero")

# Audit event → the attempt in words; {0}, {1}… are the event's arguments.
_FORBIDDEN = {
    "os.system": "run the shell command {0!r}",
    "os.exec": "replace the process with the program {0!r}",
    "os.posix_spawn": "start the program {0!r}",
    "os.spawn": "start the program {1!r}",
    "os.startfile": "open {0!r} with another program",
    "os.fork": "fork a process",
    "os.forkpty": "fork a process",
    "pty.spawn": "start the program {0!r}",
    "subprocess.Popen": "start the program {0!r} with {1!r}",
    "socket.connect": "connect to {1!r} over the network",
    "socket.bind": "listen on {1!r}",
    "socket.sendto": "send to {1!r} over the network",
    "socket.getaddrinfo": "look up the host {0!r}",
    "socket.gethostbyname": "look up the host {0!r}",
    "socket.__new__": "open a network socket",
    "urllib.Request": "fetch {0!r}",
    "http.client.connect": "connect to {1}:{2}",
    "ftplib.connect": "connect to {1}:{2}",
    "smtplib.connect": "connect to {1}:{2}",
    "ctypes.dlopen": "load the native library {0!r}",
    "os.kill": "send signal {1} to process {0}",
    "os.killpg": "send signal {1} to process group {0}",
}
# Audit event → positions of the arguments that name the changed file, and the attempt in words.
_CHANGES = {
    "os.remove": ((0,), "remove"),
    "os.rename": ((0, 1), "move"),
    "os.mkdir": ((0,), "create the directory"),
    "os.rmdir": ((0,), "remove the directory"),
    "os.link": ((0, 1), "link"),
    "os.symlink": ((1,), "link"),
    "os.truncate": ((0,), "truncate"),
    "os.chmod": ((0,), "change the mode of"),
    "os.chown": ((0,), "change the owner of"),
    "os.utime": ((0,), "change the times of"),
    "os.setxattr": ((0,), "change the attributes of"),
}


class Auditor:
    """Decides which code caused an audit event, and reports events of untrusted code."""

    def __init__(self, workdir: Path, trusted: Sequence[Path], report: Report) -> None:
        """Judge code by its location.

        Args:
            workdir: Code in it is untrusted, and only in it may files be written.
            trusted: Directories whose code is not restricted.
            report: Called with each violation, before the exception is raised.
        """
        self._workdir = _with_separator(workdir)
        self._trusted = tuple(sorted({_with_separator(path) for path in trusted}))
        paths = sysconfig.get_paths()
        self._standard = tuple({_with_separator(Path(paths[key])) for key in ("stdlib", "platstdlib")})
        self._packages = tuple({_with_separator(Path(paths[key])) for key in ("purelib", "platlib")})
        self._report = report

    def install(self) -> None:
        """Watch this interpreter from now on; an audit hook cannot be removed."""
        sys.addaudithook(self._hook)

    def user_frame(self, frame: FrameType | None) -> tuple[str, int] | None:
        """Return file and line of the untrusted code that `frame` acts for, or None if it is trusted code."""
        while frame is not None:
            name = frame.f_code.co_filename
            if name == __file__:
                frame = frame.f_back
                continue
            if name.startswith("<frozen importlib"):
                return None  # The standard library importing its own parts.
            if not self._transparent(name):
                return None if self._is_trusted(name) else (name, frame.f_lineno)
            frame = frame.f_back
        return None

    def is_user_file(self, name: str) -> bool:
        """Whether the code of this file name is untrusted."""
        return not self._transparent(name) and not self._is_trusted(name)

    def place(self, name: str) -> str:
        """Return a file name relative to the work directory, as the user knows it."""
        return name.removeprefix(self._workdir)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._opened(*arguments)
        elif event in _FORBIDDEN:
            if not _is_innocent(event):
                self._judge(_FORBIDDEN[event].format(*(_short(value) for value in arguments)))
        elif event in _CHANGES:
            positions, verb = _CHANGES[event]
            for position in positions:
                self._changed(verb, arguments[position])

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        writes = (
            any(letter in "wax+" for letter in mode) if isinstance(mode, str) else bool((flags or 0) & _WRITE_FLAGS)
        )
        if writes:
            self._changed("write", path)

    def _changed(self, verb: str, path: Any) -> None:
        if isinstance(path, int):
            return
        target = os.path.realpath(os.fsdecode(path))
        if not _with_separator(Path(target)).startswith(self._workdir) and target not in _HARMLESS_TARGETS:
            self._judge(f"{verb} {target!r}, outside its work directory")

    def _judge(self, attempt: str) -> None:
        found = self.user_frame(sys._getframe(1))
        if found is None:
            return
        failure = violation(attempt, self.place(found[0]), found[1])
        self._report(failure)
        raise failure

    def _transparent(self, name: str) -> bool:
        """Whether code of this name acts for its caller: the standard library, and text that someone executed."""
        if name.startswith("<"):
            return True
        return name.startswith(self._standard) and not name.startswith((*self._packages, self._workdir))

    def _is_trusted(self, name: str) -> bool:
        return name.startswith(self._trusted) and not name.startswith(self._workdir)


def violation(attempt: str, file: str, line: int) -> EngineFailure:
    """Return the failure of model code that attempted something forbidden."""
    return EngineFailure(
        FailureReason.UNSAFE_MODEL,
        f"The model's code tried to {attempt} ({file}, line {line}). A model's code may only compute.",
        node=f"{file}:{line}",
        evidence=f"attempted: {attempt}",
        suggested_fix=f"Remove this from {file}, or move it into the training code.",
    )


def _is_innocent(event: str) -> bool:
    """`socket.socketpair` and `fromfd` wrap a descriptor that exists already."""
    if event != "socket.__new__":
        return False
    caller = sys._getframe(2)
    return any(
        frame is not None and frame.f_code.co_name in ("socketpair", "fromfd", "dup")
        for frame in (caller, caller.f_back)
    )


def _short(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and len(value) > 200:
        return value[:200] + "…"
    if isinstance(value, list | tuple) and len(repr(value)) > 200:
        return repr(value)[:200] + "…"
    return value


def _with_separator(path: Path) -> str:
    return str(path).rstrip("/") + "/"
