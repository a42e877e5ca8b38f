"""Enum values as words: `TASK_STATE_RUNNING` on the wire is `RUNNING` in messages, tables, manifests and engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)
M = TypeVar("M", bound=Message)


def word(enum: _EnumTypeWrapper[V], value: V) -> str:
    """Return the name of an enum's value without the enum's prefix; ValueError if there is no such value."""
    return short_name(enum.Name(value), enum.DESCRIPTOR)


def number(enum: _EnumTypeWrapper[V], text: str) -> V:
    """Return the number of a value that is written with or without the enum's prefix; ValueError if there is none."""
    return enum.Value(_long(text, enum.DESCRIPTOR))


def words(enum: _EnumTypeWrapper[V]) -> list[str]:
    """Return what `word` gives for each value but the unspecified one, in order of their numbers."""
    return [short_name(name, enum.DESCRIPTOR) for name in enum.keys()[1:]]


def to_values(message: Message) -> dict[str, Any]:
    """Return a message as engines read it: JSON values by the names of the fields, enums as words."""
    values = MessageToDict(message, preserving_proto_field_name=True)
    written: dict[str, Any] = _with_enums(values, message.DESCRIPTOR, short_name)
    return written


def from_values(values: Mapping[str, Any], message: M, *, ignore_unknown_fields: bool = False) -> M:
    """Fill a message with values in which enums are words, and return it.

    Raises:
        google.protobuf.json_format.ParseError: for values that do not fit the message.
    """
    written = _with_enums(values, message.DESCRIPTOR, _long)
    return ParseDict(written, message, ignore_unknown_fields=ignore_unknown_fields)


def _with_enums(values: Any, kind: Any, change: Callable[[str, EnumDescriptor], str]) -> Any:
    """Return the values of a message with the names of its enums changed; what has another form stays as it is."""
    if not isinstance(values, Mapping):
        return values
    return {key: _field(value, key, kind, change) for key, value in values.items()}


def _field(value: Any, name: str, kind: Descriptor, change: Callable[[str, EnumDescriptor], str]) -> Any:
    field = kind.fields_by_name.get(name) or kind.fields_by_camelcase_name.get(name)
    if field is None:
        return value
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            return value
        return {key: _field(each, "value", entry, change) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_field(each, name, kind, change) for each in value]
    if entry is not None:
        return _with_enums(value, entry, change)
    return change(value, field.enum_type) if field.enum_type is not None and isinstance(value, str) else value


def short_name(name: str, enum: EnumDescriptor) -> str:
    """Return the name of a value without the prefix of its enum."""
    return name.removeprefix(_prefix(enum))


def _long(name: str, enum: EnumDescriptor) -> str:
    return name if name in enum.values_by_name else _prefix(enum) + name


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values[0].name.removesuffix("UNSPECIFIED")
