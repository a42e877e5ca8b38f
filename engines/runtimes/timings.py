"""Where a task finds what builders have timed before, and leaves what its own have timed.

Everything lies in one folder of the work directory: `<runtime>-0.given`, `<runtime>-1.given`… come from earlier tasks
of the owner, and `<runtime>.kept` is all of them with what this task has timed. The files have the runtime's own form.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

TIMINGS = "timings"
"""The folder, in the work directory of a task."""


def given_name(runtime: str, number: int) -> str:
    """Return the name of a file from an earlier task; they are numbered from 0."""
    return f"{runtime}-{number}.given"


def kept_name(runtime: str) -> str:
    """Return the name of the file that a task leaves."""
    return f"{runtime}.kept"


def read_timings(folder: Path, runtime: str) -> Sequence[bytes]:
    """Return what a build begins with: what earlier builds of the task left, else what was given; maybe nothing."""
    kept = folder / kept_name(runtime)
    if kept.is_file():
        return [kept.read_bytes()]
    given = (folder / given_name(runtime, number) for number in itertools.count())
    return [file.read_bytes() for file in itertools.takewhile(Path.is_file, given)]


def write_timings(folder: Path, runtime: str, timings: bytes) -> None:
    """Leave what the next build begins with, and what the task leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / kept_name(runtime)).write_bytes(timings)
