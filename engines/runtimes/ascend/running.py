"""Runs commands of CANN: their output goes to the task's log, at the levels that the user wants, and can be ended."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engines.runtimes.ascend.answers import failure_of, read_answers
from engines.sandbox.tools import run_tool

log = logging.getLogger(__name__)

LOG_NAME = "atc.log"
"""The file beside the form with what ATC said."""
_LEVEL = re.compile(r"\[(DEBUG|INFO|WARNING|EVENT|ERROR)\] ")


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
    variables = {**os.environ, **environment} | ({"ASCEND_SLOG_PRINT_TO_STDOUT": "1"} if wanted else {})
    lines = Lines(wanted)
    with (folder / LOG_NAME).open("w", encoding="utf-8") as written:

        def show(line: str) -> None:
            if lines.shows(line):
                log.info("%s", line)
                written.write(line + "\n")
            if line and not _LEVEL.match(line):
                progress(line)

        ended = run_tool(command, variables, folder=folder, on_line=show)
    if ended.status or "ATC run success" not in ended.text:
        answers = read_answers(ended.text)
        for answer in answers:
            log.error("ATC %s: %s", answer.code or "says", answer.message)
        raise failure_of(answers, ended.text, ended.status)
