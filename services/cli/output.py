"""Output of commands: tables for people, JSON for scripts. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import typer

if TYPE_CHECKING:
    from google.protobuf.message import Message


class OutputFormat(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[
    OutputFormat, typer.Option("--output", "-o", envvar="LATHE_OUTPUT", help="A table for people, JSON for scripts.")
]
"""Type of the `--output` option; every command that prints a result has a parameter `output: Output = TABLE`."""

TABLE = OutputFormat.TABLE


Row = TypeVar("Row")
AnyMessage = TypeVar("AnyMessage", bound="Message")


WIDE = 130
"""Least width of a line that does not go to a terminal."""
_COMFORT, _LEAST = 40, 20
"""Preferred and least width of a column of sentences."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table.

    Attributes:
        header: Its header.
        text: Returns the text of a row's cell (rich markup).
        numeric: True to align numbers right.
        whole: True to never wrap it, since people copy it.
        detail: True to leave it out of a table that is too wide for the terminal, the last one first; always shown
            for a single resource.
    """

    header: str
    text: Callable[[Row], str]
    numeric: bool = False
    whole: bool = False
    detail: bool = False


def print_rows(
    rows: Sequence[Row], columns: Sequence[Column[Row]], title: str = "", empty: str = "Nothing found."
) -> None:
    """Print a table to stdout; `empty` to stderr if there are no rows."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        note(empty)
        return
    console = Console()
    cells = [[column.text(row) for row in rows] for column in columns]
    sizes = [_Size.of(column, texts) for column, texts in zip(columns, cells, strict=True)]
    if not console.is_terminal:
        console.width = max(console.width, WIDE, _width(size.comfort for size in sizes))
    shown = _fitting(columns, sizes, console.width)
    table = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False)
    for index in shown:
        column = columns[index]
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(
            column.header, justify=justify, overflow="fold", no_wrap=column.whole, min_width=sizes[index].least
        )
    for row in zip(*(cells[index] for index in shown), strict=True):
        table.add_row(*row)
    console.print(table)


@dataclass(frozen=True)
class _Size:
    """Preferred width of a column, and the least one that breaks no word."""

    comfort: int
    least: int

    @classmethod
    def of(cls, column: Column[Any], texts: Sequence[str]) -> _Size:
        from rich.cells import cell_len
        from rich.text import Text

        lines = [column.header, *(line for text in texts for line in Text.from_markup(text).plain.splitlines())]
        whole = max(map(cell_len, lines))
        word = max((cell_len(word) for line in lines for word in line.split()), default=0)
        return cls(whole, whole) if column.whole else cls(min(whole, max(word, _COMFORT)), min(word, _LEAST))


def _width(sizes: Iterable[int]) -> int:
    """Return the width of a table, with a line and two spaces between columns."""
    return sum(size + 3 for size in sizes) - 3


def _fitting(columns: Sequence[Column[Any]], sizes: Sequence[_Size], width: int) -> list[int]:
    """Return the columns to show: details if all have their preferred width, others if no word breaks."""
    shown = list(range(len(columns)))
    for index in reversed(range(1, len(columns))):
        if columns[index].detail and _width(sizes[each].comfort for each in shown) > width:
            shown.remove(index)
    for index in reversed(shown[1:]):
        if _width(sizes[each].least for each in shown) > width:
            shown.remove(index)
    return shown


def print_json(value: Any) -> None:
    """Print a JSON value to stdout, indented."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: Any) -> None:
    """Print a JSON value to stdout in one line, unbuffered, for streams."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def message_json(message: Message) -> dict[str, Any]:
    """Return a message as JSON with the field names of the protos; 64-bit integers are strings there."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


def show_messages(
    messages: Iterable[AnyMessage],
    columns: Sequence[Column[AnyMessage]],
    output: OutputFormat,
    empty: str = "Nothing found.",
) -> None:
    """Print messages as a table, or as a JSON array."""
    rows = list(messages)
    if output is OutputFormat.JSON:
        print_json([message_json(message) for message in rows])
    else:
        print_rows(rows, columns, empty=empty)


def show_message(message: AnyMessage, fields: Sequence[Column[AnyMessage]], output: OutputFormat) -> None:
    """Print one message as a list of fields, or as a JSON object."""
    if output is OutputFormat.JSON:
        print_json(message_json(message))
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for field in fields:
        grid.add_row(field.header, field.text(message))
    Console().print(grid)


def note(sentence: str, style: str = "") -> None:
    """Print a sentence to stderr as it is, without markup."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(sentence, style=style))


def error(sentence: str, details: Sequence[str] = ()) -> None:
    """Print a failure to stderr: a sentence in red, then details, one per line."""
    note(f"error: {sentence}", style="bold red")
    for detail in details:
        note(f"  {detail}")


def plain(text: object) -> str:
    """Return a cell with the text as it is, without markup."""
    from rich.markup import escape

    return escape(str(text))
