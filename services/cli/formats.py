"""Which format a model is in: what the user says, else what its files look like, else what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.packing import require_there

BY_SUFFIX = {".pth": "PTH", ".pt": "PTH", ".ckpt": "PTH", ".onnx": "ONNX", ".pt2": "EXPORTED_PROGRAM"}


def format_of(named: str, paths: Sequence[Path]) -> str:
    """Return the name of ModelFormat of files, or of one folder that holds them.

    Args:
        named: What the user says; empty if they say nothing.
        paths: The files and folders.

    Raises:
        CliError: A path is not there; the user names no format, or nothing tells one.
    """
    from lathe.registry.v1.model_service_pb2 import ModelFormat

    known = ModelFormat.keys()[1:]
    if named:
        if named.upper() not in known:
            raise CliError(f"{named!r} is not a format; give --format, one of: {', '.join(known)}.", ExitCode.USAGE)
        return named.upper()
    require_there(paths)
    found = {BY_SUFFIX[path.suffix.lower()] for path in paths if path.suffix.lower() in BY_SUFFIX}
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
    return found.pop()
