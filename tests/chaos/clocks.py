"""Clocks that are wrong: services and workers are told the time by libfaketime, if it is installed.

It is found in its Python package (`pip install libfaketime`) or where Debian has it (`apt install libfaketime`).
Only the time of day is wrong; what measures how long something takes stays right, as on a machine whose clock is set.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

_DEBIAN = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_IN_PACKAGE = "vendor/libfaketime/src/libfaketime.so.1"


def library() -> Path | None:
    """Return where libfaketime is; None if it is not installed."""
    return next((each for each in _places() if each.exists()), None)


def environment(file: Path) -> Mapping[str, str]:
    """Return variables for processes whose clocks are wrong by what the file says.

    Raises:
        FileNotFoundError: libfaketime is not installed.
    """
    found = library()
    if found is None:
        raise FileNotFoundError("libfaketime is not installed: pip install libfaketime")
    set_wrong(file, 0)
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_wrong(file: Path, seconds: int) -> None:
    """Set clocks forward, or back if negative, from the right time."""
    beside = file.with_suffix(".new")
    beside.write_text(f"{seconds:+d}", encoding="utf-8")
    beside.replace(file)


def _places() -> Iterator[Path]:
    package = importlib.util.find_spec("libfaketime")
    for folder in (package.submodule_search_locations or ()) if package else ():
        yield Path(folder) / _IN_PACKAGE
    yield _DEBIAN
