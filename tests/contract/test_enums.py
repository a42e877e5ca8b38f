"""Every enum field of every request: a number that its enum does not define is refused, and the field is named.

What only a service sets is ignored, whatever it is: see `test_output_only.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.platform.errors import from_rpc_error
from services.platform.interceptors.behavior import behaviors
from tests.contract.requests import METHODS, request_of, right
from tests.contract.suite import Suite

UNKNOWN = 99
Path = tuple[FieldDescriptor, ...]


def enum_paths(descriptor: Descriptor, above: Path = ()) -> Iterator[Path]:
    """Yield the way to each enum field that a caller may set; a type within itself is entered once."""
    for field in descriptor.fields:
        if "OUTPUT_ONLY" in behaviors(field):
            continue
        entry = field.message_type
        value = entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else field
        if value.enum_type is not None:
            yield (*above, field)
        elif value.message_type is not None and value.message_type not in {each.message_type for each in above}:
            yield from enum_paths(value.message_type, (*above, field))


def spoiled(request: Message, path: Path) -> Message:
    """Return the request with an unknown number at the end of the path."""
    at: Any = request
    for field in path:
        value = getattr(at, field.name)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        last = field is path[-1]
        if is_map and last:
            value["k"] = UNKNOWN
        elif is_map:
            at = value["k"]
        elif field.is_repeated and last:
            value.append(UNKNOWN)
        elif field.is_repeated:
            at = value.add()
        elif last:
            setattr(at, field.name, UNKNOWN)
        else:
            value.SetInParent()
            at = value
    return request


CASES = [
    pytest.param(method, path, id=f"{method}-{'.'.join(field.name for field in path)}")
    for method, (_, _, descriptor) in METHODS.items()
    for path in enum_paths(descriptor.input_type)
]


@pytest.mark.parametrize(("method", "path"), CASES)
async def test_an_unknown_number_is_refused(suite: Suite, method: str, path: Path) -> None:
    request = spoiled(request_of(method, right(method, suite.made)), path)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await suite.call(method, request)
    error = from_rpc_error(caught.value)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    named = {re.sub(r"\[[^]]*\]", "", field) for field, _ in error.fields}
    assert ".".join(field.name for field in path) in named
