"""The composition root: what every API process is built from, made once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

import grpc
from lathe.type.v1.digest_pb2 import Digest

from services.platform.health import Probe
from services.platform.interceptors.client import forwarding
from services.platform.settings import Settings
from services.platform.tls import Certificates
from services.process.renewed import RenewedChannel
from services.process.startup import wait_for

if TYPE_CHECKING:
    from services.bus.connection import Bus
    from services.database.pool import Database
    from services.storage import ContentStore


class Need(Enum):
    """A server that a process may need."""

    DATABASE = auto()
    BUS = auto()
    STORE = auto()


EVERYTHING = frozenset(Need)

# Siblings are near: to compress what they say costs more than it saves.
_CHANNEL_OPTIONS = [("grpc.compression_enabled_algorithms_bitset", 1)]
# Asking for it tells whether the store answers.
_NO_BYTES = Digest(sha256=hashlib.sha256().hexdigest(), size_bytes=0)


class Platform:
    """The settings and the connections of one process.

    A process has only what it says that it needs; asking for more is an error in the program.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database | None = None,
        bus: Bus | None = None,
        cas: ContentStore | None = None,
    ) -> None:
        self.settings = settings
        self._database = database
        self._bus = bus
        self._cas = cas
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._parts: list[Database] = []
        self._certificates = Certificates.of(settings)

    @property
    def database(self) -> Database:
        """The pool of connections to the service's schema."""
        assert self._database is not None, "this process was started without Need.DATABASE"
        return self._database

    @property
    def databases(self) -> list[Database]:
        """The pools of the service and its parts; none without Need.DATABASE."""
        return [] if self._database is None else [self._database, *self._parts]

    @property
    def bus(self) -> Bus:
        """The connection to NATS."""
        assert self._bus is not None, "this process was started without Need.BUS"
        return self._bus

    @property
    def cas(self) -> ContentStore:
        """The content-addressed store."""
        assert self._cas is not None, "this process was started without Need.STORE"
        return self._cas

    def channel(self, service: str) -> grpc.aio.Channel:
        """Return the channel to a sibling service, such as "registry".

        Calls through it carry the caller's identity, the trace and what is left of the deadline.
        """
        channel = self._channels.get(service)
        if channel is None:
            settings = self.settings
            token = settings.service_token.get_secret_value()
            address, interceptors = settings.address_of(service), forwarding(token, settings.default_deadline_seconds)
            if self._certificates is None:
                channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS, interceptors=interceptors)
            else:
                channel = RenewedChannel(address, self._certificates, _CHANNEL_OPTIONS, interceptors)
            self._channels[service] = channel
        return channel

    async def of_part(self, schema: str) -> Platform:
        """Return the platform of a part of the service with a schema of its own, such as "profiles".

        It shares everything but the database, whose pool is closed with this platform.
        """
        from services.database.pool import Database

        database = await Database.connect(self.settings.database_url, schema)
        self._parts.append(database)
        part = Platform(self.settings, database, self._bus, self._cas)
        part._channels = self._channels
        return part

    async def close(self) -> None:
        """End the calls to sibling services, disconnect, and close the pools of parts."""
        for channel in self._channels.values():
            await channel.close()
        for database in self._parts:
            await database.close()

    def probes(self) -> dict[str, Probe]:
        """Return how to find out whether each server answers, by its name."""
        probes: dict[str, Probe] = {}
        if self._database is not None:
            probes["PostgreSQL"] = self._ask_database
        if self._bus is not None:
            probes["NATS"] = self._ask_bus
        if self._cas is not None:
            probes["object store"] = self._ask_store
        return probes

    async def _ask_database(self) -> None:
        await self.database.fetchval("SELECT 1")

    async def _ask_bus(self) -> None:
        if not self.bus.connected:
            raise ConnectionError("NATS is not connected")

    async def _ask_store(self) -> None:
        await self.cas.exists(_NO_BYTES)


@asynccontextmanager
async def open_platform(settings: Settings, service: str, needs: Collection[Need]) -> AsyncIterator[Platform]:
    """Connect to the servers that are needed, waiting for those that are not there yet; disconnect at the end.

    Raises:
        StartupError: One of them did not answer in time.
    """
    async with AsyncExitStack() as stack:
        database = await _open_database(settings, service, stack) if Need.DATABASE in needs else None
        bus = await _open_bus(settings, service, stack) if Need.BUS in needs else None
        cas = _open_store(settings) if Need.STORE in needs else None
        platform = Platform(settings, database, bus, cas)
        stack.push_async_callback(platform.close)
        yield platform


async def _open_database(settings: Settings, service: str, stack: AsyncExitStack) -> Database:
    from services.database.pool import Database

    async def connect() -> Database:
        return await Database.connect(settings.database_url, service)

    seconds = settings.startup_wait_seconds
    database = await wait_for("PostgreSQL", "LATHE_DATABASE_URL", settings.database_url, seconds, connect)
    stack.push_async_callback(database.close)
    return database


async def _open_bus(settings: Settings, service: str, stack: AsyncExitStack) -> Bus:
    from services.bus.connection import Bus

    async def connect() -> Bus:
        return await Bus.connect(settings.nats_url, f"lathe-{service}", settings.tls_ca_file)

    bus = await wait_for("NATS", "LATHE_NATS_URL", settings.nats_url, settings.startup_wait_seconds, connect)
    stack.push_async_callback(bus.close)
    return bus


def _open_store(settings: Settings) -> ContentStore:
    from services.storage import MeteredStore, S3ContentStore

    return MeteredStore(S3ContentStore(settings))
