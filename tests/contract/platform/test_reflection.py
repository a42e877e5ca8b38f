"""Tools that know no proto of ours: reflection, v1 and v1alpha, and `buf curl`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from services.platform.settings import Settings

from .conftest import Client, serving

BUF = Path(sys.executable).parent / "buf"
METHOD = "lathe.registry.v1.ArchitectureService/GetArchitecture"
VERSIONS = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]


async def ask(channel: grpc.aio.Channel, version: str, request: ServerReflectionRequest) -> ServerReflectionResponse:
    call: Any = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    async for response in call(iter([request])):
        return ServerReflectionResponse.FromString(response.SerializeToString())
    raise AssertionError("no answer")


@pytest.mark.parametrize("version", VERSIONS)
async def test_services_are_listed(client: Client, version: str) -> None:
    answer = await ask(client.channel, version, ServerReflectionRequest(list_services=""))
    names = [service.name for service in answer.list_services_response.service]
    assert {"lathe.registry.v1.ArchitectureService", "grpc.health.v1.Health", *VERSIONS} <= set(names)


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_listed_service_is_described(client: Client, version: str) -> None:
    listed = await ask(client.channel, version, ServerReflectionRequest(list_services=""))
    for service in listed.list_services_response.service:
        request = ServerReflectionRequest(file_containing_symbol=service.name)
        answer = await ask(client.channel, version, request)
        files = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
        found = {f"{file.package}.{each.name}" for file in files for each in file.service}
        assert service.name in found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "symbol",
    [METHOD.replace("/", "."), "lathe.registry.v1.Architecture", "lathe.registry.v1.Architecture.class_name"],
)
async def test_the_file_of_each_symbol_is_found(client: Client, version: str, symbol: str) -> None:
    answer = await ask(client.channel, version, ServerReflectionRequest(file_containing_symbol=symbol))
    files = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    assert "lathe/registry/v1/architecture_service.proto" in {file.name for file in files}


async def test_fields_have_their_names_in_json(client: Client) -> None:
    request = ServerReflectionRequest(file_by_filename="lathe/registry/v1/architecture_service.proto")
    answer = await ask(client.channel, VERSIONS[0], request)
    for data in answer.file_descriptor_response.file_descriptor_proto:
        names = [field.json_name for kind in FileDescriptorProto.FromString(data).message_type for field in kind.field]
        assert all(names)
        assert "class_name" not in names


@pytest.mark.parametrize("symbol", ["lathe.registry.v1.ArchitectureService.Nothing", "nothing", ""])
async def test_a_symbol_that_does_not_exist_is_not_found(client: Client, symbol: str) -> None:
    answer = await ask(client.channel, VERSIONS[0], ServerReflectionRequest(file_containing_symbol=symbol))
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def curl(client: Client, *arguments: str, schema: bool = False) -> tuple[int, Any, str]:
    """Run `buf curl` against the toy; return its exit status, its answer, and what it wrote on standard error."""
    protos = ["--schema", "protos"] if schema else []
    url = f"http://{client.address}/{METHOD}"
    process = await asyncio.create_subprocess_exec(
        BUF, "curl", *protos, "--protocol", "grpc", "--http2-prior-knowledge", *arguments, url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out) if out.strip() else None, err.decode()


@pytest.mark.parametrize("schema", [True, False], ids=["schema", "reflection"])
async def test_buf_curl_calls_a_method(client: Client, schema: bool) -> None:
    data = json.dumps({"name": "architectures/x"})
    status, answer, err = await curl(client, "-d", data, "-H", "x-lathe-user: ann", schema=schema)
    assert (status, answer) == (0, {"owner": "ann"}), err


async def test_buf_curl_shows_the_details_of_an_error(client: Client) -> None:
    status, _, err = await curl(client, "-d", "{}", schema=True)
    assert status != 0
    told = json.loads(err)
    assert told["code"] == "invalid_argument"
    assert told["message"].startswith("name: must be a name such as ")
    assert [detail["type"] for detail in told["details"]] == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]


async def test_channelz_is_there_in_debug_only() -> None:
    for debug in (True, False):
        async with serving(Settings(debug=debug, drain_seconds=1)) as client:
            call: Any = client.channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
            if debug:
                await call(b"")
            else:
                with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                    await call(b"")
