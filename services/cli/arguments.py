"""Parsing of typed arguments: preprocessing steps, arguments of postprocess methods, tensor information."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.names import parse_pairs

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from lathe.template.v1.template_service_pb2 import TypedArg
    from lathe.type.v1.preprocessing_pb2 import PreprocessingStep

SIZED = ("resize", "centercrop", "equal_resize")


def parse_steps(texts: list[str]) -> list[PreprocessingStep]:
    """Return the steps of `--step` options, in their order.

    Raises:
        CliError: A text is not a step.
    """
    return [_step(text) for text in texts]


def _step(text: str) -> PreprocessingStep:
    from lathe.type.v1.preprocessing_pb2 import Axes, PreprocessingStep, Size

    name, _, value = text.partition("=")
    try:
        if name in SIZED:
            height, width = (int(part) for part in value.split("x"))
            return PreprocessingStep(**{name: Size(height=height, width=width)})  # type: ignore[arg-type]
        if name == "transpose":
            return PreprocessingStep(transpose=Axes(order=[int(axis) for axis in value.split(",")]))
    except ValueError:
        pass  # reported below, like every other invalid step
    if text == "cvtRGB":
        return PreprocessingStep(cvt_rgb=True)
    raise CliError(
        f"--step {text!r} is not a step; steps are resize=HEIGHTxWIDTH, centercrop=…, equal_resize=…, cvtRGB and "
        "transpose=2,0,1.",
        ExitCode.USAGE,
    )


def duration(seconds: int) -> Duration | None:
    """Return the duration of an option that is given in seconds; None for 0, the default of the service."""
    from google.protobuf.duration_pb2 import Duration

    return Duration(seconds=seconds) if seconds else None


def parse_args(pairs: list[str]) -> dict[str, TypedArg]:
    """Return the arguments of `--arg` options; a value is read as YAML.

    Raises:
        CliError: A pair has no `=`, or its value is neither a text, a number, nor a list of them.
    """
    import yaml

    found = {}
    for name, text in parse_pairs(pairs, "--arg").items():
        try:
            found[name] = _typed(yaml.safe_load(text))
        except (yaml.YAMLError, ValueError) as error:
            raise CliError(
                f"--arg {name}={text!r} must be a text, a number, or a list such as [8, 16, 32].", ExitCode.USAGE
            ) from error
    return found


def _typed(value: Any) -> TypedArg:
    """Return a typed value; raises ValueError if it has no type."""
    from lathe.template.v1.template_service_pb2 import FloatVector, IntVector, StringVector, TypedArg

    many = isinstance(value, list)
    values = value if many else [value]
    kinds = {type(each) for each in values}
    if kinds and kinds <= {int, bool}:  # users write a bool, methods take 0 or 1
        numbers = [int(each) for each in values]
        return TypedArg(vi=IntVector(values=numbers)) if many else TypedArg(si=numbers[0])
    if kinds and kinds <= {int, float}:
        return TypedArg(vf=FloatVector(values=values)) if many else TypedArg(sf=value)
    if kinds == {str}:
        return TypedArg(vs=StringVector(values=values)) if many else TypedArg(ss=value)
    raise ValueError(value)


TensorInformation = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="Inputs, separated by spaces or lines, such as 'input_0:float(1*3*224*224)'; a range as "
        "(1*8,4*512), the batch axis as batch=1, the value of a sample as value=16000.",
    ),
]
TensorInformationFile = Annotated[Path | None, typer.Option(help="A file with the tensor information.")]


def tensor_information_of(text: str, file: Path | None) -> str:
    """Return the given text, or the text of the file.

    Raises:
        CliError: Both are given, or the file cannot be read.
    """
    if text and file:
        raise CliError("Give --tensor-information or --tensor-information-file, not both.", ExitCode.USAGE)
    try:
        return text if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise CliError(f"--tensor-information-file {str(file)!r} cannot be read: {problem}.", ExitCode.USAGE) from None
