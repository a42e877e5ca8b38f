"""Tensor information on the command line: as a text, or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError

TensorInformation = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="Inputs, one a line or with spaces between them, such as 'input_0:float(1*3*224*224)'; a range as "
        "(1*8,4*512), the batch axis as batch=1, the value of a sample as value=16000.",
    ),
]
TensorInformationFile = Annotated[Path | None, typer.Option(help="A file with the tensor information.")]


def tensor_information_of(text: str, file: Path | None) -> str:
    """Return the text that is given, or that is in the file.

    Raises:
        CliError: Both are given, or the file cannot be read.
    """
    if text and file:
        raise CliError("Give --tensor-information or --tensor-information-file, not both.", ExitCode.USAGE)
    try:
        return text if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise CliError(f"--tensor-information-file {str(file)!r} cannot be read: {problem}.", ExitCode.USAGE) from None
