"""Rules of the protos, applied to requests."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest
from lathe.registry.v1.architecture_service_pb2 import Architecture, CreateArchitectureRequest
from lathe.template.v1.template_service_pb2 import Template

from services.platform.errors import LatheError
from services.platform.interceptors.validation import check

from .conftest import Client, refused

GOOD = Architecture(display_name="Net", class_name="Net", source="x = 1")


async def test_a_valid_request_reaches_the_handler(client: Client) -> None:
    answer = await client.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=GOOD))
    assert answer == GOOD


async def test_every_wrong_field_is_named_with_its_path_and_what_is_wrong(client: Client) -> None:
    wrong = Architecture(display_name="Net", class_name="9 lives", source="x", labels={"A b": "y"})
    request = CreateArchitectureRequest(architecture=wrong, request_id="not a uuid")
    error = await refused(client.architectures.CreateArchitecture(request))

    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_ARGUMENT"
    fields = dict(error.fields)
    assert fields["architecture.class_name"].startswith("'9 lives' must be a Python identifier")
    assert fields['architecture.labels["A b"]'].startswith("the key 'A b' must be of a-z")
    assert fields["request_id"] == "'not a uuid' must be a valid UUID"
    assert all(path in error.message for path in fields)


async def test_a_missing_message_is_named(client: Client) -> None:
    error = await refused(client.architectures.CreateArchitecture(CreateArchitectureRequest()))
    assert error.fields == [("architecture", "value is required")]


async def test_empty_fields_are_named_in_plain_words() -> None:
    with pytest.raises(LatheError, match=r"display_name: must not be empty.*source_format: must be set"):
        check(Template())


async def test_many_and_long_violations_still_fit_into_the_answer(client: Client) -> None:
    labels = {f"Wrong {number} " + "x" * 300: "ö" * 300 for number in range(64)}
    request = CreateArchitectureRequest(architecture=Architecture(labels=labels, class_name="ä" * 5000))
    error = await refused(client.architectures.CreateArchitecture(request))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields


async def test_the_request_of_a_stream_is_validated(client: Client) -> None:
    stream = client.conversions.WatchConversionTask(WatchConversionTaskRequest(name="nonsense"))
    error = await refused(stream.read())
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == "name"


async def test_bytes_that_are_no_message_are_the_callers_mistake(client: Client) -> None:
    call: Any = client.channel.unary_unary("/lathe.registry.v1.ArchitectureService/GetArchitecture")
    error = await refused(call(b"\xff\xff\xff"))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "not a message" in error.message


async def test_a_request_beyond_4_mib_is_refused_by_grpc(client: Client) -> None:
    request = CreateArchitectureRequest(architecture=Architecture(source="x" * (5 << 20)))
    error = await refused(client.architectures.CreateArchitecture(request))
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
