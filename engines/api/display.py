"""Shows the progress of `optimize()`: a bar if `rich` is installed, else lines of text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from engines.sandbox import Reporter

if TYPE_CHECKING:
    from engines.api.report import OptimizationReport
    from engines.sandbox import Progress

_WIDTH = 60
_BAR_WIDTH = 24
_ONLY = "model: "
"""Prefix of messages about the only network of a model."""


@contextmanager
def shown(title: str, *, visible: bool) -> Iterator[Reporter]:
    """Yield a reporter whose progress is shown.

    Args:
        title: The current work.
        visible: Whether anything is shown.
    """
    if not visible:
        yield Reporter(lambda _progress: None)
    elif find_spec("rich"):
        with _bar(title) as reporter:
            yield reporter
    else:
        yield Reporter(_line)


def show_report(report: OptimizationReport) -> None:
    """Print the table of all candidates."""
    if not find_spec("rich"):
        sys.stdout.write(f"{report}\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from engines.api.report import COLUMNS

    untried = [entry for entry in report["candidates"] if not entry.get("latency") and not entry.get("failure")]
    why = f"{len(untried)} more were not measured; the report says why." if untried else None
    table = Table(title=Text(report.summary), title_justify="left", caption=why, caption_justify="left")
    for place, name in enumerate(COLUMNS):
        justify: Literal["left", "right"] = "left" if place in {0, len(COLUMNS) - 1} else "right"
        table.add_column(name, justify=justify, overflow="fold")
    for row, entry in zip(report.rows(), report["candidates"], strict=True):
        if entry not in untried:
            table.add_row(*map(Text, row), style="bold green" if entry.get("recommended") else None)
    Console().print(table)


@contextmanager
def _bar(title: str) -> Iterator[Reporter]:
    from rich.markup import escape
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=_BAR_WIDTH),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=len("0:00:00"))),
        TextColumn("{task.fields[doing]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    )
    with Bar(*columns, expand=True) as bar:
        task = bar.add_task(escape(title), total=1.0, doing="")

        def send(progress: Progress) -> None:
            bar.update(task, completed=progress.fraction, doing=escape(progress.message.removeprefix(_ONLY)))

        yield Reporter(send)


def _line(progress: Progress) -> None:
    sys.stderr.write(f"[{progress.fraction:4.0%}] {progress.message.removeprefix(_ONLY)[:_WIDTH]}\n")
