"""What an installation leaves when it has been stopped: processes, and folders of work that is over.

A process whose parent was killed belongs to nobody, and would be found nowhere: within `adopting`, it becomes a child
of this process.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_WORK = ("work/*", "tmp/*", "endpoints.json")


@contextmanager
def adopting() -> Iterator[None]:
    """Be the parent of every process below this one whose own parent has ended, within the block."""
    _set_subreaper(1)
    try:
        yield
    finally:
        _set_subreaper(0)


def processes(before: Sequence[psutil.Process], patience: float = 60.0) -> list[str]:
    """Return the command of each process below this one that still runs after so many seconds.

    Args:
        before: Those that ran before the installation was started; they are left out.
        patience: How long processes may take to end.
    """
    strangers = [each for each in psutil.Process().children(recursive=True) if each not in before]
    left = []
    for each in psutil.wait_procs(strangers, timeout=patience)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(" ".join(each.cmdline()) or each.name())
    return left


def folders(state: Path) -> list[str]:
    """Return what is left in the folders of an installation's state that are empty when nobody works."""
    return [str(each.relative_to(state)) for pattern in _WORK for each in sorted(state.glob(pattern))]


def _set_subreaper(value: int) -> None:
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot adopt others")
