"""Fields that only a service sets (`google.api.field_behavior`: OUTPUT_ONLY): what a request says there is ignored."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from lathe._options import field_behavior_pb2

__all__ = ["behaviors", "clear_output_only"]

# Services tell each other what the others cannot know: nothing is ignored there.
_BETWEEN_SERVICES = "lathe.internal."


def behaviors(field: FieldDescriptor) -> list[str]:
    """Return the names of a field's behaviors: `REQUIRED`, `OUTPUT_ONLY`…"""
    numbers = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return [field_behavior_pb2.FieldBehavior.Name(number) for number in numbers]


def clear_output_only(request: Message) -> None:
    """Clear every output-only field of a request, at any depth, so that it is neither checked nor taken."""
    if not request.DESCRIPTOR.full_name.startswith(_BETWEEN_SERVICES):
        _clear(request)


class _Plan(NamedTuple):
    """What to do in messages of one type: the fields to clear, and those in which more may be."""

    output_only: list[str]
    single: list[str]
    repeated: list[str]
    maps: list[str]


def _clear(message: Message) -> None:
    plan = _plan(message.DESCRIPTOR)
    for name in plan.output_only:
        message.ClearField(name)
    for name in plan.single:
        if message.HasField(name):
            _clear(getattr(message, name))
    for name in plan.repeated:
        for each in getattr(message, name):
            _clear(each)
    for name in plan.maps:
        for each in getattr(message, name).values():
            _clear(each)


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    plan = _Plan([], [], [], [])
    for field in descriptor.fields:
        inner = field.message_type
        if "OUTPUT_ONLY" in behaviors(field):
            plan.output_only.append(field.name)
        elif inner is not None and _has_any(inner):
            is_map = inner.GetOptions().map_entry
            into = plan.maps if is_map else plan.repeated if field.is_repeated else plan.single
            into.append(field.name)
    return plan


@cache
def _has_any(descriptor: Descriptor) -> bool:
    """Return whether an output-only field is anywhere in messages of a type."""
    seen, ahead = {descriptor.full_name}, [descriptor]
    while ahead:
        for field in ahead.pop().fields:
            if "OUTPUT_ONLY" in behaviors(field):
                return True
            if field.message_type is not None and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                ahead.append(field.message_type)
    return False
