"""Finds the format of a model: as the user says, else from the files themselves, else from their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.packing import require_there


def format_of(named: str, paths: Sequence[Path]) -> str:
    """Return the name of ModelFormat of files, or of one folder that holds them.

    Args:
        named: What the user says; empty if they say nothing.
        paths: The files and folders.

    Raises:
        CliError: A path is not there, the user names no known format, or nothing tells the format.
    """
    from engines.formats import FORMATS

    known = list(FORMATS)
    if named:
        if named.upper() not in known:
            raise CliError(f"{named!r} is not a format; give --format, one of: {', '.join(known)}.", ExitCode.USAGE)
        return named.upper()
    require_there(paths)
    endings = {path.suffix.lower() for path in paths}
    found = [name for name, entry in FORMATS.items() if not endings.isdisjoint(entry.endings)]
    problem = "The files' endings do not tell the format"
    if len(paths) == 1:
        from engines.failures import EngineFailure
        from engines.formats.detection import detect

        try:
            return detect(paths[0])
        except EngineFailure as failure:
            problem = failure.message.removesuffix(".")
        except OSError as error:
            raise CliError(f"{error.filename}: {error.strerror}") from error
    if len(found) != 1:
        raise CliError(f"{problem}; give --format, one of: {', '.join(known)}.", ExitCode.USAGE)
    return found[0]
