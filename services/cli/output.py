"""What every command prints: tables for people, JSON for scripts. Results go to stdout, all else to stderr."""

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
"""Columns of a terminal from which on tables show all that they have; a pipe counts as wide."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table.

    Attributes:
        header: Its header.
        text: Makes the text of a row's cell (rich markup).
        numeric: Numbers stand to the right.
        whole: Never broken into lines: what people copy.
        detail: Left out of tables in narrow terminals; there where one resource is shown.
    """

    header: str
    text: Callable[[Row], str]
    numeric: bool = False
    whole: bool = False
    detail: bool = False


def print_rows(
    rows: Sequence[Row], columns: Sequence[Column[Row]], title: str = "", empty: str = "Nothing found."
) -> None:
    """Print a table to stdout; `empty` to stderr where there are no rows."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        note(empty)
        return
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    shown = [column for column in columns if console.width >= WIDE or not column.detail]
    table = Table(title=title or None, title_justify="left")
    for column in shown:
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(column.header, justify=justify, overflow="fold", no_wrap=column.whole)
    for row in rows:
        table.add_row(*(column.text(row) for column in shown))
    console.print(table)


def print_json(value: Any) -> None:
    """Print a JSON value to stdout, indented."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: Any) -> None:
    """Print a JSON value to stdout in one line, at once: for streams."""
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
    """Print one message: its fields one below the other, or as a JSON object."""
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
    """Print a sentence to stderr, as it is: no markup is read from it."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(sentence, style=style))


def error(sentence: str, details: Sequence[str] = ()) -> None:
    """Print what went wrong to stderr: one sentence in red, then details, one per line."""
    note(f"error: {sentence}", style="bold red")
    for detail in details:
        note(f"  {detail}")


def plain(text: object) -> str:
    """Return a cell that shows the text as it is, without reading markup from it."""
    from rich.markup import escape

    return escape(str(text))
