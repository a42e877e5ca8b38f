"""The process of a form that ends as a file beside the form says: at once for `dies`; for `once` after some calls."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

from engines.runtimes import open_form
from engines.runtimes.protocol import BuiltForm, Session
from engines.tensors import Array, Arrays
from engines.timing import process_main

PROGRAM = __name__ if __name__ != "__main__" else "tests.unit.optimization.mortal"
CALLS = 20


class Mortal(Session):
    """Ends its process in a call."""

    def __init__(self, session: Session) -> None:
        self._session, self._left = session, CALLS

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._session.run(dict(inputs))

    def close(self) -> None:
        self._session.close()


def opened(form: BuiltForm, threads: int) -> Session:
    if (form.directory / "dies").exists():
        os.kill(os.getpid(), signal.SIGSEGV)
    session = open_form(form, threads)
    if not (form.directory / "once").exists():
        return session
    (form.directory / "once").unlink()
    return Mortal(session)


if __name__ == "__main__":
    process_main.main(int(sys.argv[1]), opened)
