"""`lathe demo`: the main job on real data, from training to the package that runs alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.client import Connection, connect
from services.cli.options import DataDir, chosen_data_dir
from services.cli.output import Column, note, print_rows

if TYPE_CHECKING:
    from services.cli.demo.training import TrainedDigits

RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Line:
    """One line of the closing table."""

    form: str
    accuracy: float
    note: str


def demo(data_dir: DataDir = None) -> None:
    """Train a small CNN on handwritten digits, convert it, prove it, and run the packages on held-out digits."""
    folder = chosen_data_dir(data_dir)
    started = time.monotonic()
    with running_suite(folder) as connection:
        work = folder / "demo"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        lines = run(connection, work)
    print_rows(lines, COLUMNS, title="Held-out digits")
    note(f"Done in {time.monotonic() - started:.0f} s. The packages are in {work}; each runs with its own infer.py.")


def run(connection: Connection, work: Path) -> list[Line]:
    """Do the whole demo against running services, and return the closing table."""
    from services.cli.demo import steps

    heading("1. Train a CNN on scikit-learn's handwritten digits")
    digits = train_with_progress(work)
    heading("2. Register architecture, template and weights")
    architecture = steps.register_architecture(connection)
    template = steps.create_template(connection)
    version = steps.push_weights(connection, digits.checkpoint, architecture.name)
    note(f"{version.name}: {architecture.name}, {template.name}")
    lines = [Line("PyTorch (source)", digits.accuracy, f"{len(digits.labels)} images")]
    for number, runtime in enumerate(RUNTIMES, start=3):
        heading(f"{number}. Convert for {runtime}, compare with the source, measure, download, run")
        task = steps.convert(connection, version.name, template.name, runtime, skip_cache=True)
        package = work / runtime
        steps.download_package(connection, task.result.model_version, package)
        accuracy = steps.run_package(package, digits)
        precision = steps.manifest(package)["precision"]
        lines.append(Line(f"{runtime} package", accuracy, f"{precision}, infer.py alone"))
    heading("5. Ask for the same conversion again")
    begun = time.monotonic()
    steps.convert(connection, version.name, template.name, RUNTIMES[-1], skip_cache=False)
    note(f"Answered from the action cache in {(time.monotonic() - begun) * 1000:.0f} ms.")
    return lines


@contextmanager
def running_suite(folder: Path) -> Iterator[Connection]:
    """Give a connection to the suite that runs on a data directory; start one, and stop it again, where none does."""
    from services.local.endpoints import read_endpoints
    from services.local.health import service_health
    from services.local.stack import Stack

    with connect() as connection:
        if read_endpoints(folder) and all(
            service_health(address, timeout=1) == "healthy" for address in connection.addresses.values()
        ):
            yield connection
            return
    note(f"Starting the suite in {folder.resolve()} …")
    stack = Stack(folder, say=note)
    stack.start()
    try:
        with connect() as connection:
            yield connection
    finally:
        note("Stopping the suite …")
        stack.stop()


def train_with_progress(work: Path) -> TrainedDigits:
    """Train behind a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    from services.cli.demo.training import EPOCHS, train

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("training", total=EPOCHS)
        digits = train(
            work, lambda epoch, loss: progress.update(bar, completed=epoch, description=f"training, loss {loss:.4f}")
        )
    note(f"PyTorch itself gets {digits.accuracy:.2%} of {len(digits.labels)} held-out images right.")
    return digits


def heading(text: str) -> None:
    """Print a heading on stderr."""
    note(f"\n{text}", style="bold")


COLUMNS: list[Column[Line]] = [
    Column("form", lambda line: line.form),
    Column("accuracy", lambda line: f"{line.accuracy:.2%}", numeric=True),
    Column("", lambda line: line.note),
]
