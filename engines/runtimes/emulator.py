"""An emulator of another kind of processor: forms run in it by the opener that packages carry, to be compared.

`deploy/arm-emulator/build.sh` makes one of 64-bit ARM: QEMU, and a Python for ARM with the wheels of the runtimes.
What it takes to compute says nothing about the processor's speed.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import first_line
from engines.runtimes import emulated_main
from engines.runtimes.emulated_main import LENGTH, pack, unpack
from engines.runtimes.opened import OpenedForm
from engines.sandbox.environment import ARM_EMULATOR

ARCHITECTURE = "aarch64"
_PATIENCE_SECONDS = 600.0
_END_SECONDS = 5.0
_TAIL = 1000


@dataclass(frozen=True)
class Emulator:
    """An emulator that is installed.

    Attributes:
        folder: Its folder, with the program `python` and the file `VERSION`.
    """

    folder: Path

    @property
    def version(self) -> str:
        """What it emulates, and what runs there, in words."""
        return (self.folder / "VERSION").read_text(encoding="utf-8").strip()

    def open(self, opener: str, path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
        """Open a form by an opener: a module in `engines/runtimes`, by its dotted name.

        Raises:
            RuntimeError: What the opener raised, or the end of what the emulator printed.
        """
        return EmulatedForm(self.folder / "python", opener, path, options, threads)


def emulator_of(architecture: str) -> Emulator | None:
    """Return the emulator of an architecture; None if none is set up."""
    folder = os.environ.get(ARM_EMULATOR, "")
    if architecture != ARCHITECTURE or not folder or not (Path(folder) / "python").is_file():
        return None
    return Emulator(Path(folder))


class EmulatedForm(OpenedForm):
    """A form in a process of the emulator."""

    def __init__(self, python: Path, opener: str, path: str, options: Mapping[str, str], threads: int) -> None:
        main = Path(emulated_main.__file__)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(python), "-P", str(main), str(main.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        asked = {"opener": opener, "path": path, "options": dict(options), "threads": threads}
        try:
            found, _ = self._ask(pack({"open": asked}))
        except BaseException:
            self.close()
            raise
        self.outputs = tuple(found["outputs"])

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        return self._ask(pack({"names": list(feed)}, feed.values()))[1]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of what it never read
                    pipe.close()

    def _ask(self, message: bytes) -> tuple[dict[str, Any], list[Any]]:
        assert self._process.stdin is not None  # it is a pipe
        until = time.monotonic() + _PATIENCE_SECONDS
        try:
            self._process.stdin.write(message)
            self._process.stdin.flush()
            head, arrays = unpack(self._read(LENGTH.unpack(self._read(LENGTH.size, until))[0], until))
        except (BrokenPipeError, EOFError):
            raise RuntimeError(f"the emulator ended: {self._said()}") from None
        if "error" in head:
            raise RuntimeError(head["error"])
        return head, arrays

    def _read(self, size: int, until: float) -> bytes:
        assert self._process.stdout is not None  # it is a pipe
        descriptor, data = self._process.stdout.fileno(), bytearray()
        while len(data) < size:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise RuntimeError(f"the emulator gave no answer within {_PATIENCE_SECONDS:.0f} s")
            part = os.read(descriptor, size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def _said(self) -> str:
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # it closed its output, and went on
            self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip()
        return first_line(RuntimeError(said[-_TAIL:])) if said else f"exit status {self._process.returncode}"
