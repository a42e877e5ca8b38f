"""Which field of a request names what does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from services.platform.errors import LatheError

__all__ = ["located"]

# The fields that say what a call is about, as in `name`, `names[3]` and `alias.name`.
_TARGETS = frozenset({"name", "names", "parent"})


def located(error: LatheError, request: Any) -> LatheError:
    """Return the error; one that says that a resource does not exist gets the fields of the request that name it.

    Whoever finds out, often another service, does not know in which field of this request the name was, and whether the
    call is about that resource or only refers to it.
    """
    if error.code is grpc.StatusCode.NOT_FOUND and error.resource is not None and isinstance(request, Message):
        paths = list(_naming(request, error.resource[1]))
        error.fields = [(path, error.message) for path in paths]
        refers = bool(paths) and not any(_is_target(path, request) for path in paths)
        error.reason = "REFERENCE_NOT_FOUND" if refers else "NOT_FOUND"
    return error


def _is_target(path: str, request: Message) -> bool:
    """Return whether a field says what a call is about: by its name, or as there is no field of such a name."""
    if path.rpartition(".")[2].partition("[")[0] in _TARGETS:
        return True
    return "." not in path and _TARGETS.isdisjoint(request.DESCRIPTOR.fields_by_name)


def _naming(message: Message, name: str) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        values = enumerate(value) if field.is_repeated else [(-1, value)]
        for index, each in values:
            path = field.name if index < 0 else f"{field.name}[{index}]"
            if isinstance(each, Message):
                yield from (f"{path}.{inner}" for inner in _naming(each, name))
            elif each == name:
                yield path
