"""`lathe logs`: logs of the stack's processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.options import DataDir, chosen_data_dir
from services.cli.output import TABLE, Output, OutputFormat, print_json_line

_POLL_SECONDS = 0.2
_COLORS = (
    typer.colors.CYAN,
    typer.colors.MAGENTA,
    typer.colors.YELLOW,
    typer.colors.GREEN,
    typer.colors.BLUE,
    typer.colors.BRIGHT_BLACK,
    typer.colors.BRIGHT_CYAN,
)


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Parts of the stack, such as converter; all by default.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of lines from the end of each log.")] = 20,
    data_dir: DataDir = None,
    output: Output = TABLE,
) -> None:
    """Show the logs of the stack's processes."""
    from services.local.logfile import tail

    folder = chosen_data_dir(data_dir) / "logs"
    files = find_logs(folder, names or [])
    width = max(len(name) for name in files)
    readers = {name: LogReader(path) for name, path in files.items()} if follow else {}
    for name, path in files.items():
        for line in tail(path, lines):
            _print(name, line, width, list(files), output)
    while readers:
        time.sleep(_POLL_SECONDS)
        for name, reader in readers.items():
            for line in reader.new_lines():
                _print(name, line, width, list(files), output)


def find_logs(folder: Path, names: list[str]) -> dict[str, Path]:
    """Return name → log file, in the requested order.

    Raises:
        CliError: There are no logs, or none of a given name.
    """
    present = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not present:
        raise CliError(f"No logs in {folder.resolve()}: has `lathe up` ever run there?", ExitCode.NOT_FOUND)
    missing = [name for name in names if name not in present]
    if missing:
        raise CliError(f"No log of {', '.join(missing)}; logs exist of {', '.join(present)}.", ExitCode.NOT_FOUND)
    return {name: present[name] for name in names} if names else present


class LogReader:
    """Reads lines that are appended to a log from now on, and continues at its start if it is emptied."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = path.stat().st_size
        self._unfinished = b""

    def new_lines(self) -> Iterator[str]:
        """Yield the lines that were completed since the last call."""
        size = self._path.stat().st_size
        if size < self._position:
            self._position, self._unfinished = 0, b""
        with self._path.open("rb") as file:
            file.seek(self._position)
            *complete, self._unfinished = (self._unfinished + file.read()).split(b"\n")
            self._position = file.tell()
        for line in complete:
            yield line.decode(errors="replace")


def _print(name: str, line: str, width: int, names: list[str], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json_line({"name": name, "line": line})
    elif len(names) == 1:
        typer.echo(line)
    else:
        color = _COLORS[names.index(name) % len(_COLORS)]
        typer.echo(typer.style(f"{name:<{width}} │ ", fg=color) + line)
