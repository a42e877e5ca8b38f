"""Starts and stops an API process: the one main of every service.

def main() -> None:
    run("registry", build)

async def build(platform: Platform) -> ServiceParts: ...
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from lathe.internal.v1.audit_service_pb2_grpc import add_AuditLogServiceServicer_to_server
from lathe.internal.v1.reference_service_pb2_grpc import add_ReferenceServiceServicer_to_server
from lathe.internal.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server

from services.audit.recorder import Recorder
from services.platform import telemetry
from services.platform.authentication import authenticator_for
from services.platform.background import Background
from services.platform.grants import CachedGrants, FetchRoles
from services.platform.health import Health
from services.platform.interceptors.aliases import LookUp
from services.platform.interceptors.deadline import Deadlines
from services.platform.interceptors.pipeline import Pipeline
from services.platform.interceptors.traffic import Traffic
from services.platform.quotas import CachedQuotas
from services.platform.settings import ConfigurationError, Settings, load_settings
from services.platform.tls import Certificates
from services.platform.work_folders import sweep
from services.process.aliases import RegistryAliases
from services.process.audit_servicer import AuditLogServicer
from services.process.composition import EVERYTHING, Need, Platform, open_platform
from services.process.grants import RegistryGrants
from services.process.quotas import RegistryQuotas
from services.process.reference_servicer import ReferenceServicer
from services.process.reflection import add_reflection
from services.process.startup import StartupError, prepare_schema_apart, refuse, tune_collector
from services.process.usage_servicer import CountTasks, UsageServicer

_OPTIONS = [
    # Two servers on one port would each get some of the calls.
    ("grpc.so_reuseport", 0),
    # A watch may be silent for minutes; pings keep it alive through balancers, and find the clients that are gone.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients may do the same, as often as they like and also while they call nothing. By default gRPC has an idle one
    # wait for hours between two pings, and closes its connection with `too_many_pings` after the third.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    # A watch goes on over the connection that its calls leave; it ends with its task, which may take a day.
    ("grpc.max_connection_age_grace_ms", 48 * 3_600_000),
    # Compresses answers for clients that take it; `Pipeline` says which are large enough to be worth the work.
    ("grpc.default_compression_level", 1),
    # Room for the tokens of identity providers, and for an answer to those that are too large.
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.absolute_max_metadata_size", 64 << 10),
    # gRPC cancels what waits beyond this, without a word. `Pipeline` refuses with words, and much earlier.
    ("grpc.server.max_pending_requests", 1_000_000),
    ("grpc.server.max_pending_requests_hard_limit", 1_000_000),
]
# For calls that came too late to be counted: they are answered at once.
_LAST_SECONDS = 1.0
# Servers that end with their process. Until then they refuse calls, so that clients go elsewhere; to stop one would
# cancel calls.
_UNTIL_THE_END: list[grpc.aio.Server] = []
_log: Any = structlog.get_logger("lathe.server")


@dataclass(frozen=True)
class ServiceParts:
    """What a service adds to the common server.

    Attributes:
        register: Adds the servicers to the server.
        service_names: Full names of the services, for health and reflection.
        background: Coroutines that run until the server stops; each is started again if it fails.
        look_up: Finds the versions of aliases in requests; None asks the registry.
        roles: Finds the roles of a caller; None asks the registry.
        quotas: How much projects may use; None asks the registry.
        counts: Count the tasks of projects, each those of one kind; the registry asks for them.
        tells_references: The registry asks it what its tables refer to in the object store.
    """

    register: Callable[[grpc.aio.Server], None]
    service_names: list[str]
    background: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    look_up: LookUp | None = None
    roles: FetchRoles | None = None
    quotas: CachedQuotas | None = None
    counts: Sequence[CountTasks] = ()
    tells_references: bool = True

    def beside(self, other: ServiceParts) -> ServiceParts:
        """Return the parts of a process that serves both."""

        def register(server: grpc.aio.Server) -> None:
            self.register(server)
            other.register(server)

        names = [*self.service_names, *other.service_names]
        return ServiceParts(
            register,
            names,
            [*self.background, *other.background],
            quotas=self.quotas,
            counts=[*self.counts, *other.counts],
        )


Build = Callable[[Platform], Awaitable[ServiceParts]]


def run(name: str, build: Build, needs: Collection[Need] = EVERYTHING) -> None:
    """Be the service `name` until SIGTERM or SIGINT; ends the process with an explanation if it cannot start."""
    import uvloop

    # Cleans up if the signal comes before the event loop runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = load_settings()
        authenticator_for(settings)  # refuses before anything is waited for
        Certificates.of(settings)
        telemetry.configure(settings, name)
        if Need.DATABASE in needs:
            prepare_schema_apart(settings, name)
        uvloop.run(_run(name, build, settings, needs))
    except ConfigurationError as error:
        refuse(name, error, status=2)
    except StartupError as error:
        refuse(name, error)
    except KeyboardInterrupt:
        sys.exit(0)


async def _run(name: str, build: Build, settings: Settings, needs: Collection[Need]) -> None:
    stop = asyncio.Event()
    me = asyncio.current_task()
    assert me is not None
    loop = asyncio.get_running_loop()
    # While it starts, a signal breaks it off.
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, me.cancel)
    try:
        await asyncio.to_thread(sweep, settings.work_dir)
        pause = settings.shutdown_pause_seconds
        async with serving(name, build, settings, needs, settings.listen_address(name), pause=pause) as address:
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(each, stop.set)
            _log.info("ready", address=address)
            tune_collector()
            await stop.wait()
            _log.info("draining", pause=pause, seconds=settings.drain_seconds)
    except asyncio.CancelledError:
        _log.info("stopped before it was ready")
        return
    _log.info("stopped")
    telemetry.flush()
    logging.shutdown()
    # At once, and its connections with it: event loop and gRPC would first cancel the calls that have just come.
    os._exit(0)


@asynccontextmanager
async def serving(
    name: str, build: Build, settings: Settings, needs: Collection[Need], listen: str, *, pause: float | None = None
) -> AsyncIterator[str]:
    """Serve within the running event loop; gives the address.

    Args:
        name: The service.
        build: Builds its parts.
        settings: Where its servers are; host and port are not used.
        needs: The servers that are connected.
        listen: host:port; a free port if it is 0.
        pause: Seconds between the refusal of new calls and the end, in a process that ends with the server. None stops
            the server itself.
    """
    authenticator = authenticator_for(settings)
    async with open_platform(settings, name, needs) as platform:
        parts = await build(platform)
        deadlines = Deadlines(settings.default_deadline_seconds, settings.max_deadline_seconds)
        look_up = parts.look_up or RegistryAliases(platform.channel("registry")).look_up
        grants = CachedGrants(parts.roles or RegistryGrants(platform.channel("registry")).fetch)
        recorder = Recorder(platform.database, settings.audit_retention_days) if platform.databases else None
        quotas = parts.quotas or CachedQuotas(RegistryQuotas(platform.channel("registry")).fetch)
        traffic = Traffic(settings, quotas)
        pipeline = Pipeline(authenticator, grants, deadlines, look_up, traffic, auditor=recorder)
        age = ("grpc.max_connection_age_ms", int(settings.connection_age_seconds * 1000))
        server = grpc.aio.server(interceptors=[pipeline], options=[*_OPTIONS, age])
        certificates = Certificates.of(settings)
        parts.register(server)
        if recorder is not None:
            add_AuditLogServiceServicer_to_server(AuditLogServicer(platform.databases), server)
        if parts.tells_references:
            add_ReferenceServiceServicer_to_server(ReferenceServicer(platform.databases), server)
        if parts.counts:
            add_UsageServiceServicer_to_server(UsageServicer(parts.counts), server)
        health = Health(parts.service_names, platform.probes())
        await health.register(server)
        add_reflection(server, [*parts.service_names, "grpc.health.v1.Health"])
        if settings.debug:
            _add_channelz(server)
        probed = grpc.aio.server()
        await health.register(probed)
        # Before it listens: who connects to a port that nobody serves yet waits for it until the deadline.
        await health.check()
        address = _listen(server, listen, certificates.for_server() if certificates else None)
        if certificates and settings.internal_port:
            _listen(server, settings.address_at(settings.internal_port), certificates.for_server(of_siblings=True))
        if settings.probe_port:
            _listen(probed, settings.address_at(settings.probe_port))
        await server.start()
        await probed.start()
        keeping = [] if recorder is None else [recorder.run]
        async with Background([health.watch, *keeping, *parts.background]):
            try:
                yield address
            finally:
                await health.drain()
                # Balancers and clients that watch the health go elsewhere; until they have, every call is answered.
                await asyncio.sleep(pause or 0)
                await traffic.drain(settings.drain_seconds)
                if pause is None:
                    await server.stop(_LAST_SECONDS)
                    await probed.stop(None)
                else:
                    _UNTIL_THE_END.extend((server, probed))


def _listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None) -> str:
    """Take the port, in the clear without credentials; return the address with the port that was taken."""
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        raise StartupError(
            f"The address {address} is in use, or does not belong to this machine. Stop what listens there, or set "
            "LATHE_PORT and LATHE_BIND_HOST."
        ) from None
    return f"{address.rpartition(':')[0]}:{port}"


def _add_channelz(server: grpc.aio.Server) -> None:
    from grpc_channelz.v1 import channelz

    channelz.add_channelz_servicer(server)
