"""YAML and JSON documents, and `path=value` pairs, as messages of the API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from lathe.template.v1.template_service_pb2 import Template, TemplateOverrides

    M = TypeVar("M", bound=Message)


def read_document(path: Path, message: M) -> M:
    """Fill a message from a YAML or JSON file with the field names of the protos.

    Raises:
        CliError: The file cannot be read, or says something that the message does not have.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: this is neither YAML nor JSON: {error}", ExitCode.USAGE) from error
    return _parse(values, message, str(path))


def overrides(pairs: list[str], file: Path | None) -> TemplateOverrides:
    """Return the overrides of a document and of `path=value` pairs, such as `components.net.max_batch=8`.

    A pair may also take a value back: `execution.fuse_operators=false`, `components.net.state_dict_key=''`.

    Raises:
        CliError: A pair or the document cannot be read.
    """
    import yaml
    from lathe.template.v1.template_service_pb2 import Template, TemplateOverrides

    values = read_document(file, Template()) if file else Template()
    cleared = []
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals:
            raise CliError(f"--set {pair!r} must be path=value, such as components.net.max_batch=8.", ExitCode.USAGE)
        value = yaml.safe_load(text)
        _parse_into(values, path, value)
        _parse_into(alone := Template(), path, value)
        if not _set_paths(alone):
            cleared.append(path)
    # Without paths, every value that is set counts; a zero or an empty one never looks set, and must be named.
    return TemplateOverrides(values=values, paths=[*_set_paths(values), *cleared] if cleared else [])


def _set_paths(template: Template) -> list[str]:
    """Return the path of every value that is set, as TemplateOverrides writes it."""
    paths = []
    for field, value in template.ListFields():
        if field.name == "components":
            paths += [f"components.{each.name}.{f.name}" for each in value for f, _ in each.ListFields()[1:]]
        elif field.name == "execution":
            paths += [f"execution.{f.name}" for f, _ in value.ListFields()]
        else:
            paths.append(field.name)
    return paths


def _parse_into(template: Template, path: str, value: object) -> None:
    head, _, rest = path.partition(".")
    if head == "execution" and rest:
        _parse({rest: value}, template.execution, f"--set {path}", merge=True)
        return
    if head != "components":
        nested: object = value
        for part in reversed(path.split(".")):
            nested = {part: nested}
        _parse(nested, template, f"--set {path}", merge=True)
        return
    name, _, field = rest.rpartition(".")
    component = next((each for each in template.components if each.name == name), None)
    if component is None:
        component = template.components.add(name=name)
    _parse({field: value}, component, f"--set {path}", merge=True)


def _parse(values: object, message: M, where: str, *, merge: bool = False) -> M:
    from google.protobuf.json_format import ParseDict, ParseError

    if not isinstance(values, dict):
        raise CliError(f"{where}: a mapping of fields is needed, this is {type(values).__name__}.", ExitCode.USAGE)
    try:
        parsed = ParseDict(values, type(message)())
    except ParseError as error:
        raise CliError(f"{where}: {error}", ExitCode.USAGE) from error
    if not merge:
        message.CopyFrom(parsed)
        return message
    for name in values:
        field = message.DESCRIPTOR.fields_by_name.get(name) or message.DESCRIPTOR.fields_by_camelcase_name[name]
        if field.is_repeated or field.message_type is None:
            message.ClearField(field.name)  # a list is replaced, not appended to; a zero counts
    message.MergeFrom(parsed)
    return message
