"""Services over TLS: certificates that rotate, siblings that are known by theirs, and what a client is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub
from lathe_client.tls import open_channel, why_unreachable
from pydantic import SecretStr
from structlog.testing import capture_logs

from services.platform import reread
from services.platform.identity import Credential, Proof, acting_as, current_caller
from services.platform.settings import ConfigurationError, Settings
from services.platform.tls import Certificates
from services.process.composition import Platform
from tests.certificates import Authority
from tests.in_process import serve_in_process, with_free_addresses

from .conftest import GET, refused
from .toy import Toy

HOST = "127.0.0.1"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.setattr(reread, "LOOK_AGAIN_SECONDS", 0)
    return Authority(tmp_path)


class Seen:
    """Who called."""

    def __init__(self) -> None:
        self.callers: list[tuple[str, Proof, Credential, set[str]]] = []

    async def __call__(self, _context: Any) -> Any:
        caller = current_caller()
        self.callers.append((caller.user, caller.proof, caller.credential, set(caller.groups)))
        return Architecture(owner=caller.user)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[tuple[str, Seen]]:
    toy = Toy()
    toy.behavior = seen = Seen()
    async with serve_in_process("toy", toy.build, settings, needs=()) as address:
        yield address, seen


async def owner(address: str, ca: Path | bytes, *pair: bytes, **call: Any) -> str:
    authorities = ca if isinstance(ca, bytes) else ca.read_bytes()
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authorities, *pair)) as channel:
        answer = await ArchitectureServiceStub(channel).GetArchitecture(GET, timeout=60, **call)
        return str(answer.owner)


async def test_new_connections_get_the_new_certificate_and_old_ones_go_on(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue(HOST)
    old_ca = files.ca.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    new = Authority(other).issue(HOST)
    async with (
        served(Settings(**files.settings(), drain_seconds=1)) as (address, _),
        grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(old_ca)) as kept,
    ):
        stub = ArchitectureServiceStub(kept)
        await stub.GetArchitecture(GET)
        files.cert.write_bytes(new.cert.read_bytes())  # one file after the other: in between, they do not fit
        with capture_logs() as lines:
            assert await owner(address, old_ca) == "anonymous"
        assert [line["error"].endswith("KEY_VALUES_MISMATCH.") for line in lines if line["log_level"] == "error"] == [
            True
        ]
        files.key.write_bytes(new.key.read_bytes())
        files.ca.write_bytes(new.ca.read_bytes())
        assert await owner(address, new.ca) == "anonymous"
        assert (await refused(as_call(owner(address, old_ca)))).code is grpc.StatusCode.UNAVAILABLE
        await stub.GetArchitecture(GET)


async def as_call(call: Any) -> Any:
    return await call


async def test_a_port_with_tls_takes_nothing_in_the_clear(authority: Authority) -> None:
    files = authority.issue(HOST)
    async with (
        served(Settings(**files.settings(), drain_seconds=1)) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = ArchitectureServiceStub(channel).GetArchitecture(GET, timeout=60)
        assert (await refused(call)).code is grpc.StatusCode.UNAVAILABLE


@pytest.fixture
async def guarded(authority: Authority, tmp_path: Path) -> Settings:
    """Settings of services that know each other by certificates, and users by tokens."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"of-ann": "ann", "between-services": "eve"}))
    ports = with_free_addresses(Settings(), "registry", "template", "converter")
    port = {name: int(ports.address_of(name).rpartition(":")[2]) for name in ("registry", "template", "converter")}
    return Settings(
        **authority.issue(HOST).settings(),
        auth_tokens_file=tokens,
        service_token=SecretStr("between-services"),
        registry_address=ports.registry_address,
        internal_port=port["registry"],
        probe_port=port["template"],
        drain_seconds=1,
    )


ANN = (("authorization", "Bearer of-ann"),)
AS_A_SERVICE = (("authorization", "Bearer between-services"), ("x-lathe-user", "ann"), ("x-lathe-acting", "service"))


async def test_siblings_are_known_by_their_certificates(guarded: Settings, authority: Authority) -> None:
    async with served(guarded) as (address, seen):
        platform = Platform(guarded)
        stub = ArchitectureServiceStub(platform.channel("registry"))
        with acting_as("ada"):
            await stub.GetArchitecture(GET)
        first = seen.callers[-1]
        assert first == ("ada", Proof.SERVICE, Credential.CERTIFICATE, set())
        # The stub outlives the certificates: the next call is made with the new ones.
        authority.issue(HOST)
        with acting_as("bob"):
            await stub.GetArchitecture(GET)
        assert seen.callers[-1][0] == "bob"
        await platform.close()
        # Users have the other port, where the services' token makes a service of nobody: here it is a user's.
        assert await owner(address, authority.ca, metadata=ANN) == "ann"
        assert await owner(address, authority.ca, metadata=AS_A_SERVICE) == "eve"
        assert seen.callers[-1][1] is Proof.USER


async def test_nobody_else_gets_in_by_the_internal_port(
    guarded: Settings, authority: Authority, tmp_path: Path
) -> None:
    internal = guarded.registry_address
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    for settings in (None, Authority(stranger).issue(HOST)):
        pair = (settings.key.read_bytes(), settings.cert.read_bytes()) if settings else ()
        async with served(guarded):
            told = await refused(as_call(owner(internal, authority.ca, *pair, metadata=AS_A_SERVICE)))
            assert told.code is grpc.StatusCode.UNAVAILABLE
    laptop = authority.issue("laptop.example.com", to="laptop")
    pair = (laptop.key.read_bytes(), laptop.cert.read_bytes())
    async with served(guarded) as (_, seen):
        # A certificate of the authority, of no service: who calls is known by the token, as at the other port.
        assert (await refused(as_call(owner(internal, authority.ca, *pair)))).code is grpc.StatusCode.UNAUTHENTICATED
        await owner(internal, authority.ca, *pair, metadata=(*ANN, ("x-lathe-acting", "service")))
        assert seen.callers[-1][:2] == ("ann", Proof.USER)


async def test_probes_have_a_port_in_the_clear_that_does_nothing_else(guarded: Settings) -> None:
    async with served(guarded), grpc.aio.insecure_channel(f"{HOST}:{guarded.probe_port}") as channel:
        probes = health_pb2_grpc.HealthStub(channel)
        for service in ("", "live"):
            answer = await probes.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        call = ArchitectureServiceStub(channel).GetArchitecture(GET, metadata=ANN, timeout=60)
        assert (await refused(call)).code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_client_is_told_what_is_wrong(authority: Authority, guarded: Settings, tmp_path: Path) -> None:
    ca = str(authority.ca)

    async def why(address: str, ca_file: str) -> str:
        return await asyncio.to_thread(why_unreachable, address, ca_file)

    async with served(guarded) as (address, _):
        assert await why(address, ca) == ""
        assert "speaks TLS. Set LATHE_TLS_CA_FILE" in await why(address, "")
        assert "not signed by an authority that is trusted" in await why(f"https://{address}", "")
        assert "is for 127.0.0.1, not for localhost" in await why(address.replace(HOST, "localhost"), ca)
        assert "port of Lathe's own services" in await why(f"{HOST}:{guarded.internal_port}", ca)
        assert "speaks plaintext" in await why(f"{HOST}:{guarded.probe_port}", ca)
        assert await why(f"{HOST}:{guarded.probe_port}", "") == ""
        with open_channel(address, ca, []) as channel:
            ready = grpc.channel_ready_future(channel)
            await asyncio.to_thread(ready.result, 60)
    assert await why(address, ca) == "", "nobody listens"
    authority.issue(HOST, valid=-timedelta(hours=1))
    async with served(guarded) as (address, _):
        assert "has expired" in await why(address, ca)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tls_key_file": None}, "go together"),
        ({"tls_ca_file": None}, "LATHE_TLS_CA_FILE is needed"),
        ({"tls_cert_file": None, "tls_key_file": None}, "LATHE_INTERNAL_PORT asks siblings"),
        ({"tls_cert_file": Path("/nowhere")}, "/nowhere cannot be read"),
        ({"tls_ca_file": Path(__file__)}, "LATHE_TLS_CA_FILE"),
        ({"tls_key_file": Path(__file__)}, "no certificate and its key"),
    ],
)
def test_settings_that_cannot_be(authority: Authority, change: dict[str, Any], said: str) -> None:
    settings = Settings(**authority.issue(HOST).settings(), internal_port=1)
    with pytest.raises(ConfigurationError, match=said):
        Certificates.of(settings.model_copy(update=change))
    assert Certificates.of(Settings()) is None
