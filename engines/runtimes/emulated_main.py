"""Runs under an emulator of another processor, with that processor's Python: opens a form, answers calls.

It imports the opener that packages carry, and nothing else of Lathe: the other Python has NumPy and the runtime alone.
A message is a length and that many bytes of an NPZ archive: JSON, then arrays. The first one says what to open, the
others name the inputs; an answer has the outputs in order, or the error.

python emulated_main.py <folder of the runtimes>
"""

from __future__ import annotations

import importlib
import io
import json
import os
import struct
import sys
import types
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

LENGTH = struct.Struct("<Q")


def pack(head: dict[str, Any], arrays: Iterable[Any] = ()) -> bytes:
    """Return values that are JSON, and arrays, as a message."""
    written = io.BytesIO()
    np.savez(written, np.array(json.dumps(head)), *arrays, allow_pickle=False)
    return LENGTH.pack(written.getbuffer().nbytes) + written.getvalue()


def unpack(content: bytes) -> tuple[dict[str, Any], list[Any]]:
    """Return the values and the arrays of a message's content."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        head, *arrays = (archive[name] for name in archive.files)
        return json.loads(str(head)), arrays


def _serve(folder: str, requests: BinaryIO, answers: BinaryIO) -> None:
    opened: Any = None
    while header := requests.read(LENGTH.size):
        head, arrays = unpack(requests.read(LENGTH.unpack(header)[0]))
        try:
            if "open" in head:
                opened = _open(folder, **head["open"])
                answer = pack({"outputs": list(opened.outputs)})
            else:
                answer = pack({}, opened.run(dict(zip(head["names"], arrays, strict=True))))
        except Exception as error:  # a runtime may raise anything
            answer = pack({"error": f"{type(error).__name__}: {error}"})
        answers.write(answer)
        answers.flush()


def _open(folder: str, opener: str, path: str, options: dict[str, str], threads: int) -> Any:
    package = types.ModuleType("runtimes")  # not `engines.runtimes`, whose table needs all of Lathe
    package.__path__ = [folder]
    sys.modules["runtimes"] = package
    return importlib.import_module(f"runtimes.{opener}").open_file(path, options, threads)


if __name__ == "__main__":
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.argv[1], sys.stdin.buffer, replies)
