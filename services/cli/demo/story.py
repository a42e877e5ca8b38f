"""How the demo tells what it does: headings, the bar of a training, a line of the closing table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.cli.output import note


@dataclass(frozen=True)
class Line:
    """One line of the closing table: a form, its main figure (0 to 1), and a note."""

    form: str
    figure: float
    note: str


def heading(text: str) -> None:
    """Print a heading on stderr."""
    note(f"\n{text}", style="bold")


@contextmanager
def training(epochs: int) -> Iterator[Callable[[int, float], None]]:
    """Show a progress bar, and give what to call after each epoch with its number and mean loss."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("training", total=epochs)

        def on_epoch(epoch: int, loss: float) -> None:
            progress.update(bar, completed=epoch, description=f"training, loss {loss:.4f}")

        yield on_epoch
