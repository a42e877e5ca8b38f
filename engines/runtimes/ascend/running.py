"""Runs commands of CANN: their output goes to the task's log, at the levels that the user wants, and can be ended."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.runtimes.ascend.answers import failure_of, read_answers
from engines.sandbox.deadline import Overrun, seconds_left

log = logging.getLogger(__name__)

LOG_NAME = "atc.log"
"""The file beside the form with what ATC said."""
_LONGEST_SECONDS = 24 * 3600.0
_MOST_LINES = 20_000
"""Lines of output that are kept for the failure; all of them go to the log."""
_LEVEL = re.compile(r"\[(DEBUG|INFO|WARNING|EVENT|ERROR)\] ")


@dataclass(frozen=True)
class Said:
    """What a command printed.

    Attributes:
        status: Its exit status.
        text: Its output, the last lines of it.
    """

    status: int
    text: str


class Lines:
    """Chooses the lines of CANN's log that a user wants to see; what is no line of the log is always shown."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = {level.upper() for level in wanted} | ({"EVENT"} if "info" in wanted else set())
        self._shown = True

    def shows(self, line: str) -> bool:
        """Return whether a line is shown; a line that continues another one goes with it."""
        if level := _LEVEL.match(line):
            self._shown = level[1] in self._wanted
        elif not line[:1].isspace():
            self._shown = True
        return self._shown


def run_atc(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    wanted: frozenset[str],
    progress: Callable[[str], None],
) -> None:
    """Run ATC in a folder; its log is `atc.log` there afterwards.

    Args:
        command: The program and its arguments.
        folder: Where it is started.
        environment: Variables beside those of this process.
        wanted: Levels of its log that are shown.
        progress: Told each line that is no line of the log.

    Raises:
        EngineFailure: What its answers say.
        Overrun: There was not enough time.
    """
    variables = {**environment, "ASCEND_SLOG_PRINT_TO_STDOUT": "1"} if wanted else dict(environment)
    said = run_logged(command, folder, variables, wanted, file=folder / LOG_NAME, progress=progress)
    if said.status or "ATC run success" not in said.text:
        answers = read_answers(said.text)
        for answer in answers:
            log.error("ATC %s: %s", answer.code or "says", answer.message)
        raise failure_of(answers, said.text, said.status)


def run_logged(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    wanted: frozenset[str],
    *,
    file: Path,
    progress: Callable[[str], None] = lambda line: None,
) -> Said:
    """Run a command, and return its status and output; the lines that are wanted go to the task's log and a file.

    Raises:
        Overrun: There was not enough time; the command and what it started are gone.
    """
    lines = Lines(wanted)
    kept: list[str] = []
    left = min(seconds_left(), _LONGEST_SECONDS)
    with (
        subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            process_group=0,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
        file.open("w", encoding="utf-8") as written,
    ):
        late = threading.Event()

        def end() -> None:
            late.set()
            _kill(process.pid)

        timer = threading.Timer(max(left, 0.0), end)
        timer.daemon = True
        timer.start()
        try:
            for line in process.stdout or ():
                text = line.rstrip()
                kept.append(text)
                del kept[:-_MOST_LINES]
                if lines.shows(text):
                    log.info("%s", text)
                    written.write(text + "\n")
                if text and not _LEVEL.match(text):
                    progress(text)
            status = process.wait()
        finally:
            timer.cancel()
            _kill(process.pid)
    if late.is_set():
        raise Overrun
    return Said(status, "\n".join(kept))


def _kill(group: int) -> None:
    """End a command and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
