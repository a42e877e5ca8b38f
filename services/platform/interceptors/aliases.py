"""Aliases in requests: before a handler sees one, `models/{model}/aliases/{alias}` becomes the version it stands for.

A field may hold an alias if its rule in the proto says so: its pattern has `(versions|aliases)`. No other list of these
fields exists. What is created from an alias thus records a number.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from lathe._options import validate_pb2

__all__ = ["LookUp", "Reference", "aliases_in", "request_as_sent", "resolve"]

LookUp = Callable[[Collection[str]], Awaitable[Mapping[str, str]]]
"""Returns the versions that aliases stand for, by alias, without those that do not exist."""

_AS_SENT: ContextVar[bytes] = ContextVar("request_as_sent", default=b"")
_RULE = "(versions|aliases)"
_MARK = "/aliases/"
_MARK_BYTES = _MARK.encode()


class Reference(NamedTuple):
    """A field of a message that holds an alias, or a list that has some."""

    message: Any
    field: str
    repeated: bool


class _Plan(NamedTuple):
    """What to look at in messages of one type: fields that may hold aliases, and those in which such fields may be."""

    references: frozenset[str]
    messages: frozenset[str]


def request_as_sent() -> bytes:
    """Return the request of this call as its caller wrote it, if it has aliases; empty otherwise.

    A repeat of a request is the same request, even if the alias has moved since.
    """
    return _AS_SENT.get()


def aliases_in(request: Message, raw: bytes) -> list[Reference]:
    """Return where a request has aliases: nearly always nowhere, which its bytes tell at once."""
    return list(_found(request)) if _MARK_BYTES in raw else []


async def resolve(request: Message, references: Collection[Reference], look_up: LookUp) -> None:
    """Put versions in the place of aliases. One that does not exist stays, and the handler says that there is none."""
    _AS_SENT.set(request.SerializeToString(deterministic=True))
    named = {name for each in references for name in _names(each) if _MARK in name}
    versions = await look_up(named)
    for message, field, repeated in references:
        value = getattr(message, field)
        if repeated:
            found = [versions.get(name, name) for name in value]
            rules = message.DESCRIPTOR.fields_by_name[field].GetOptions().Extensions[validate_pb2.field]
            # What the field takes once each may have two aliases of one version.
            value[:] = dict.fromkeys(found) if rules.repeated.unique else found
        else:
            setattr(message, field, versions.get(value, value))


def _names(reference: Reference) -> Collection[str]:
    value = getattr(reference.message, reference.field)
    return value if reference.repeated else (value,)


def _found(message: Message) -> Iterator[Reference]:
    plan = _plan(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if field.name in plan.references:
            reference = Reference(message, field.name, field.is_repeated)
            if any(_MARK in name for name in _names(reference)):
                yield reference
        elif field.name in plan.messages:
            for inner in value if field.is_repeated else (value,):
                yield from _found(inner)


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    references = frozenset(field.name for field in descriptor.fields if _takes_aliases(field))
    inner = ((field.name, field.message_type) for field in descriptor.fields)
    messages = frozenset(name for name, kind in inner if kind is not None and _reaches_reference(kind))
    return _Plan(references, messages)


@cache
def _reaches_reference(descriptor: Descriptor) -> bool:
    """Return whether a field that may hold an alias is anywhere in messages of a type; maps have none."""
    seen, ahead = {descriptor.full_name}, [descriptor]
    while ahead:
        kind = ahead.pop()
        if kind.GetOptions().map_entry:
            continue
        for field in kind.fields:
            if _takes_aliases(field):
                return True
            if field.message_type is not None and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                ahead.append(field.message_type)
    return False


def _takes_aliases(field: FieldDescriptor) -> bool:
    if field.type != FieldDescriptor.TYPE_STRING:
        return False
    rules = field.GetOptions().Extensions[validate_pb2.field]
    text = rules.repeated.items.string if field.is_repeated else rules.string
    return _RULE in text.pattern
