"""NATS and the object store over TLS, with certificates of an authority of our own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.bus.connection import Bus
from services.local.health import port_answers
from services.local.nats import NatsServer
from services.platform.settings import Settings
from services.storage import S3ContentStore
from tests.certificates import Authority, Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Authority(tmp_path).issue("127.0.0.1")


class Secured(NatsServer):
    """A server that speaks TLS alone."""

    files: Files

    def _configuration(self) -> str:
        tls = f'tls {{ cert_file: "{self.files.cert}", key_file: "{self.files.key}" }}\n'
        return super()._configuration() + tls

    def answers(self) -> bool:
        return port_answers(f"127.0.0.1:{self.port}")


@pytest.fixture
def server(tmp_path: Path, files: Files) -> Iterator[Secured]:
    server = Secured(tmp_path / "nats", durable=False)
    server.files = files
    server.start()
    yield server
    server.stop()


async def test_nats_is_trusted_by_the_authority(server: Secured, files: Files) -> None:
    url = server.url.replace("nats://", "tls://")
    bus = await Bus.connect(url, "test", files.ca)
    assert (await bus.js.account_info()).memory == 0
    await bus.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await Bus.connect(url, "test")


async def test_the_store_is_trusted_by_the_authority(s3_settings: dict[str, str], files: Files) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    host, _, port = s3_settings["s3_endpoint"].removeprefix("http://").rpartition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        below_reader, below_writer = await asyncio.open_connection(host, int(port))
        with suppress(ConnectionError, ssl.SSLError):
            await asyncio.gather(_copy(reader, below_writer), _copy(below_reader, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context) as front:
        endpoint = f"https://127.0.0.1:{front.sockets[0].getsockname()[1]}"
        trusting = Settings.model_validate({**s3_settings, "s3_endpoint": endpoint, "tls_ca_file": files.ca})
        store = S3ContentStore(trusting)
        digest = await store.put_bytes(b"over TLS")
        assert await store.exists(digest)
        other = S3ContentStore(trusting.model_copy(update={"tls_ca_file": None}))
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            await other.exists(digest)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while block := await source.read(65536):
        target.write(block)
        await target.drain()
    target.close()
