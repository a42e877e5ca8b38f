"""Arguments of postprocess methods as people type them: `score_threshold=0.3`, `strides=[8, 16, 32]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.names import parse_pairs

if TYPE_CHECKING:
    from lathe.template.v1.template_service_pb2 import TypedArg


def parse_args(pairs: list[str]) -> dict[str, TypedArg]:
    """Return the arguments of `--arg` options; a value is read as YAML.

    Raises:
        CliError: A pair has no `=`, or its value is neither a text, a number, nor a list of one of them.
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
    """Return a value in its type; ValueError if there is none for it."""
    from lathe.template.v1.template_service_pb2 import FloatVector, IntVector, StringVector, TypedArg

    many = isinstance(value, list)
    values = value if many else [value]
    kinds = {type(each) for each in values}
    if kinds and kinds <= {int, bool}:  # a flag is a bool to people, and 0 or 1 to a method
        numbers = [int(each) for each in values]
        return TypedArg(vi=IntVector(values=numbers)) if many else TypedArg(si=numbers[0])
    if kinds and kinds <= {int, float}:
        return TypedArg(vf=FloatVector(values=values)) if many else TypedArg(sf=value)
    if kinds == {str}:
        return TypedArg(vs=StringVector(values=values)) if many else TypedArg(ss=value)
    raise ValueError(value)
