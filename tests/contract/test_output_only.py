"""What only a service sets: a value in a request is ignored, in every method, whatever the value is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from lathe._options import resource_pb2

from services.platform.errors import from_rpc_error
from services.platform.interceptors.behavior import behaviors
from tests.contract.requests import METHODS, request_of, right
from tests.contract.suite import Suite

FORGED = "forged\nby a caller"
# Made anew for each request, as the first one's are taken.
IDENTITIES = {"CreateArchitecture": {"class_name": "ForgedNet"}}
IDS = {"CreateAlias": {"alias_id": "forged"}}
# Nothing here can be compared: the request gets as far as any other.
REFUSED = {"CreateEvaluationComparison"}
# Makes nothing: the template that it takes is nobody's resource.
MAKING_NOTHING = {"ResolveTaskTemplate"}


def resources_of(method: str) -> Iterator[tuple[str, Descriptor]]:
    """Yield the fields of a request that hold a resource, with its type."""
    for field in METHODS[method][2].input_type.fields:
        if field.message_type is not None and field.message_type.GetOptions().HasExtension(resource_pb2.resource):
            yield field.name, field.message_type


MAKING = [
    name for name in METHODS if not name.startswith("Update") and name not in MAKING_NOTHING and any(resources_of(name))
]
CHANGING = [name for name in METHODS if name.startswith("Update")]


def forge(message: Any, depth: int = 3) -> None:
    """Set every field of a message that only its service sets."""
    for field in message.DESCRIPTOR.fields:
        if "OUTPUT_ONLY" in behaviors(field):
            _set(message, field, depth)


def _set(message: Any, field: FieldDescriptor, depth: int) -> None:
    value = getattr(message, field.name)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key, inner = _scalar(entry.fields_by_name["key"]), entry.fields_by_name["value"]
        if inner.message_type is None:
            value[key] = _scalar(inner)
        else:
            value[key].SetInParent()
    elif entry is not None:
        inner_message = value.add() if field.is_repeated else value
        inner_message.SetInParent()
        if depth:
            for each in entry.fields:
                _set(inner_message, each, depth - 1)
    elif field.is_repeated:
        value.append(_scalar(field))
    else:
        setattr(message, field.name, _scalar(field))


def _scalar(field: FieldDescriptor) -> str | int:
    """Return a value that no service would set, of a number that no enum defines."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return FORGED
    return 99 if field.enum_type is not None else 1


@pytest.mark.parametrize("method", MAKING)
async def test_nothing_that_a_caller_sets_there_is_taken(suite: Suite, method: str) -> None:
    request: Any = request_of(method, right(method, suite.made))
    for field, _ in resources_of(method):
        resource = getattr(request, field)
        for name, value in IDENTITIES.get(method, {}).items():
            setattr(resource, name, value)
            resource.source = resource.source.replace("FuzzNet", value)
        resource.display_name = f"Forged {method}"
        resource.name = "forged/name"
        resource.etag = FORGED
        forge(resource)
    for name, value in IDS.get(method, {}).items():
        setattr(request, name, value)
    if method in REFUSED:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await suite.call(method, request)
        assert from_rpc_error(caught.value).code is grpc.StatusCode.NOT_FOUND
        return
    made = await suite.call(method, request)
    assert FORGED not in str(made)
    assert made["name"] != "forged/name"
    assert (made["owner"], made["uid"]) == ("ann", re.sub(r"[^0-9a-f-]", "", made["uid"]))


@pytest.mark.parametrize("method", CHANGING)
async def test_a_mask_that_names_it_is_refused_and_a_value_alone_is_not(suite: Suite, method: str) -> None:
    ((name, resource_type),) = resources_of(method)
    changeable = await _changeable(suite, method)
    for field in resource_type.fields:
        found = set(behaviors(field))
        if field.name not in changeable:
            assert field.name == "etag" or found & {"OUTPUT_ONLY", "IMMUTABLE", "IDENTIFIER"}, field.full_name
        else:
            assert not found & {"OUTPUT_ONLY", "IMMUTABLE", "IDENTIFIER"}, field.full_name
    request: Any = request_of(method, right(method, suite.made))
    forge(getattr(request, name))
    assert FORGED not in str(await suite.call(method, request))


async def _changeable(suite: Suite, method: str) -> set[str]:
    """Return the fields that an Update changes, as it says when a mask names another."""
    request: Any = request_of(method, right(method, suite.made))
    request.update_mask.paths[:] = ["uid"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await suite.call(method, request)
    ((field, description),) = from_rpc_error(caught.value).fields
    assert field == "update_mask"
    return set(description.partition("Fields that can be changed: ")[2].rstrip(".").split(", "))


def without_update() -> list[Descriptor]:
    changed = {kind.full_name for method in CHANGING for _, kind in resources_of(method)}
    answers = (METHODS[name][2].output_type for name in METHODS if name.startswith(("Create", "Get")))
    made = {answer.full_name: answer for answer in answers}
    found = (kind for name, kind in sorted(made.items()) if name not in changed)
    return [each for each in found if each.GetOptions().HasExtension(resource_pb2.resource)]


@pytest.mark.parametrize("resource", without_update(), ids=lambda each: str(each.name))
def test_what_cannot_be_changed_says_so(resource: Descriptor) -> None:
    for field in resource.fields:
        fixed = set(behaviors(field)) & {"OUTPUT_ONLY", "IMMUTABLE", "IDENTIFIER"}
        assert fixed or field.name == "etag", field.full_name


def test_every_kind_of_value_is_forged() -> None:
    forged: Message = message_factory.GetMessageClass(METHODS["GetConversionTask"][2].output_type)()
    forge(forged)
    assert {"uid", "status", "attempts", "resolved", "result"} <= {field.name for field, _ in forged.ListFields()}
