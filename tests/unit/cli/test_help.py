"""The help of every command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from services.cli.main import app
from tests.unit.cli.conftest import Lathe


def commands(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """Return the words of a command, and of each below it."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *words, name)


def test_help_of_every_command(lathe: Lathe) -> None:
    found = list(commands(typer.main.get_command(app)))
    assert {("convert",), ("models", "push"), ("datasets", "derive"), ("demo",)} <= set(found)
    for words in found:
        told = lathe(*words, "--help")
        assert (told.code, "Usage" in told.out) == (0, True), words
