"""Who may call, and as whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest
from pydantic import SecretStr

from services.platform import reread
from services.platform.interceptors import credentials
from services.platform.settings import ConfigurationError, Settings

from .conftest import Client, refused, serving


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Client]:
    """A toy that asks for tokens."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"token-of-ann": "ann", "token-of-bob": "bob"}))
    settings = Settings(auth_tokens_file=tokens, service_token=SecretStr("between-services"), drain_seconds=1)
    async with serving(settings) as client:
        yield client


async def test_open_without_a_name_is_anonymous(client: Client) -> None:
    assert (await client.get()).owner == "anonymous"


async def test_open_believes_the_name_in_the_metadata(client: Client) -> None:
    assert (await client.get(metadata=[("x-lathe-user", "ann")])).owner == "ann"


async def test_a_stream_knows_its_caller(client: Client) -> None:
    request = WatchConversionTaskRequest(name="conversionTasks/x")
    stream = client.conversions.WatchConversionTask(request, metadata=[("x-lathe-user", "ann")])
    assert [task.owner async for task in stream] == ["", "ann"]


async def test_a_name_that_is_none_is_refused(client: Client) -> None:
    error = await refused(client.get(metadata=[("x-lathe-user", "x" * 129)]))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_token_names_its_user_whatever_the_caller_says(guarded: Client) -> None:
    metadata = [("authorization", "Bearer token-of-ann"), ("x-lathe-user", "bob")]
    assert (await guarded.get(metadata=metadata)).owner == "ann"


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer wrong", "Basic token-of-ann", "token-of-ann"])
async def test_without_a_known_token_nobody_gets_in(guarded: Client, header: str) -> None:
    error = await refused(guarded.get(metadata=[("authorization", header)] if header else []))
    assert error.code is grpc.StatusCode.UNAUTHENTICATED
    assert "token" in error.message


async def test_a_giant_token_is_refused_in_a_sentence(guarded: Client) -> None:
    error = await refused(guarded.get(metadata=[("authorization", f"Bearer {'x' * 40_000}")]))
    assert error.code is grpc.StatusCode.UNAUTHENTICATED
    assert "40000 characters" in error.message


async def test_streams_and_reflection_ask_for_the_token_too(guarded: Client) -> None:
    stream = guarded.conversions.WatchConversionTask(WatchConversionTaskRequest(name="conversionTasks/x"))
    assert (await refused(stream.read())).code is grpc.StatusCode.UNAUTHENTICATED
    reflection = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    asked = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert (await refused(asked.read())).code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_ends_when_its_token_is_revoked(
    guarded: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "LOOK_AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(reread, "LOOK_AGAIN_SECONDS", 0)
    request = WatchConversionTaskRequest(name="conversionTasks/endless")
    ann, bob = (
        guarded.conversions.WatchConversionTask(request, metadata=[("authorization", f"Bearer token-of-{user}")])
        for user in ("ann", "bob")
    )
    for stream in (ann, bob):
        await stream.read()
    (tmp_path / "tokens.json").write_text(json.dumps({"token-of-bob": "bob"}))
    error = await refused(ann.read())
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bob.read(), 0.2)


async def test_health_asks_for_nothing(guarded: Client) -> None:
    answer = await health_pb2_grpc.HealthStub(guarded.channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_service_speaks_for_its_caller(guarded: Client) -> None:
    metadata = [("authorization", "Bearer between-services"), ("x-lathe-user", "bob")]
    assert (await guarded.get(metadata=metadata)).owner == "bob"


async def test_a_server_that_strangers_can_reach_does_not_start_open() -> None:
    with pytest.raises(ConfigurationError, match="LATHE_AUTH_TOKENS_FILE"):
        async with serving(Settings(bind_host="0.0.0.0")):
            pass
