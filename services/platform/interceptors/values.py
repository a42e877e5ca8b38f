"""Values that protobuf accepts and that mean nothing: undefined numbers of enums, and times with wrong nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

__all__ = ["meaningless_values"]

_TIMES = ("google.protobuf.Duration", "google.protobuf.Timestamp")


class _Plan(NamedTuple):
    """What to look at in messages of one type: the enums by field, the times, and the fields in which either may be."""

    enums: dict[str, EnumDescriptor]
    times: set[str]
    messages: set[str]


def meaningless_values(message: Message) -> Iterator[tuple[str, str]]:
    """Yield the path of each such field in a message, and what is wrong with it."""
    plan = _plan(message.DESCRIPTOR)
    if not any(plan):
        return
    for field, value in message.ListFields():
        if enum := plan.enums.get(field.name):
            for path, number in _entries(field, value):
                if number not in enum.values_by_number:
                    names = ", ".join(each.name for each in enum.values)
                    yield path, f"{number} is not a value of {enum.name}; use one of: {names}"
        elif field.name in plan.times:
            yield from ((path, wrong) for path, each in _entries(field, value) if (wrong := _wrong_time(each)))
        elif field.name in plan.messages:
            for path, inner in _entries(field, value):
                for deeper, description in meaningless_values(inner):
                    yield f"{path}.{deeper}", description


def _wrong_time(value: Any) -> str:
    try:
        value.ToJsonString()
    except ValueError as error:
        return str(error)
    return ""


def _entries(field: FieldDescriptor, value: Any) -> Iterator[tuple[str, Any]]:
    if not field.is_repeated:
        yield field.name, value
    elif _map_value(field) is not None:
        yield from ((f'{field.name}["{key}"]', value[key]) for key in value)
    else:
        yield from ((f"{field.name}[{index}]", each) for index, each in enumerate(value))


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    plan = _Plan({}, set(), set())
    for field in descriptor.fields:
        kind = _map_value(field) or field
        if kind.enum_type is not None:
            plan.enums[field.name] = kind.enum_type
        elif kind.message_type is not None and kind.message_type.full_name in _TIMES:
            plan.times.add(field.name)
        elif kind.message_type is not None and _reaches_any(kind.message_type):
            plan.messages.add(field.name)
    return plan


@cache
def _reaches_any(descriptor: Descriptor) -> bool:
    """Return whether an enum or a time is anywhere in messages of a type."""
    seen, ahead = {descriptor.full_name}, [descriptor]
    while ahead:
        for field in ahead.pop().fields:
            if field.enum_type is not None or (
                field.message_type is not None and field.message_type.full_name in _TIMES
            ):
                return True
            if field.message_type is not None and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                ahead.append(field.message_type)
    return False


def _map_value(field: FieldDescriptor) -> FieldDescriptor | None:
    """Return the field of a map's values; None for another field."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else None
