"""YAML and JSON documents, and `path=value` pairs, as messages of the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from lathe.template.v1.template_service_pb2 import TemplateOverrides

    M = TypeVar("M", bound=Message)


def read_document(path: Path, message: M) -> M:
    """Fill a message from a YAML or JSON file with the field names of the protos.

    Raises:
        CliError: The file cannot be read, or has an unknown field.
    """
    return _parse(_load(path), message, str(path))


def overrides(pairs: list[str], file: Path | None, options: Mapping[str, str] | None = None) -> TemplateOverrides:
    """Return the overrides of a document and of `path=value` pairs, such as `components.net.max_batch=8`.

    Zeros and empty values count: `execution.fuse_operators=false` overrides a value. `options` are more options of the
    runtime.

    Raises:
        CliError: A pair or the document cannot be read.
    """
    import yaml
    from lathe.template.v1.template_service_pb2 import Template, TemplateOverrides

    values = _load(file) if file else {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals:
            raise CliError(f"--set {pair!r} must be path=value, such as components.net.max_batch=8.", ExitCode.USAGE)
        _put(values, path, yaml.safe_load(text))
    if options:
        values["runtime_options"] = {**(values.get("runtime_options") or {}), **options}
    message = _parse(values, Template(), str(file) if file else "--set")
    return TemplateOverrides(values=message, paths=_paths(values))


def _put(values: dict[str, Any], path: str, value: object) -> None:
    """Set the value at a path in the notation of TemplateOverrides."""
    head, _, rest = path.partition(".")
    if head == "components" and rest:
        name, _, field = rest.rpartition(".")
        components = values.setdefault("components", [])
        component = next((each for each in components if each.get("name") == name), None)
        if component is None:
            components.append(component := {"name": name})
        component[field] = value
    elif head == "execution" and rest:
        values.setdefault("execution", {})[rest] = value
    else:
        values[path] = value


def _paths(values: dict[str, Any]) -> list[str]:
    """Return the path of every value in a document."""
    paths = []
    for key, value in values.items():
        if key == "components":
            paths += [f"components.{each['name']}.{field}" for each in value for field in each if field != "name"]
        elif key == "execution":
            paths += [f"execution.{field}" for field in value]
        else:
            paths.append(key)
    return paths


def _load(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: this is not valid YAML or JSON: {error}", ExitCode.USAGE) from error
    if not isinstance(values, dict):
        raise CliError(f"{path}: this must be a mapping of fields, not {type(values).__name__}.", ExitCode.USAGE)
    return values


def _parse(values: dict[str, Any], message: M, where: str) -> M:
    from google.protobuf.json_format import ParseError

    from services.platform.words import from_values

    try:
        return from_values(values, message)
    except ParseError as error:
        raise CliError(f"{where}: {_in_words(str(error), message)}", ExitCode.USAGE) from error


def _in_words(error: str, message: Message) -> str:
    """Return what protobuf says of a value; of one that an enum does not have, the field and those that it has."""
    from services.platform.words import short_name

    found = re.search(r"Invalid enum value (\S+) for enum type (\S+) at \w+\.(\S+?)\.*$", error)
    if not found:
        return error
    value, name, field = found.groups()
    enum: Any = message.DESCRIPTOR.file.pool.FindEnumTypeByName(name)
    offered = ", ".join(short_name(each.name, enum) for each in enum.values if each.number)
    return f"{field} cannot be '{short_name(value, enum)}'; it is one of {offered}."
