"""What is installed, and who calls."""

from __future__ import annotations

import asyncio
from importlib import metadata

import grpc
import nats.errors
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lathe.registry.v1 import info_service_pb2 as pb
from lathe.registry.v1.model_service_pb2 import ModelFormat
from lathe.type.v1.access_pb2 import Role as ProjectRole

from engines.formats import CONVERTIBLE
from engines.spec.devices import load_catalog
from services.bus.connection import BusUnavailableError
from services.bus.streams import projected_kinds
from services.platform.access import own_roles
from services.platform.identity import MOST_PRIORITY_OF_USERS, Credential, Proof, current_caller, may_administer
from services.platform.messages import MAX_MESSAGE_BYTES
from services.platform.settings import DEFAULT_PORTS
from services.platform.words import number
from services.process.composition import Platform
from services.resources.paging import MAX_PAGE_SIZE

PATIENCE_SECONDS = 1.0
_MOST_PROJECTS = 1000
_CREDENTIALS = {
    Credential.NOTHING: pb.AUTHENTICATION_OPEN,
    Credential.TOKEN: pb.AUTHENTICATION_TOKEN,
    Credential.JWT: pb.AUTHENTICATION_JWT,
    Credential.CERTIFICATE: pb.AUTHENTICATION_CERTIFICATE,
}


class Info:
    """What can be asked about the installation."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._settings = platform.settings
        self._mode = pb.AUTHENTICATION_TOKEN if self._settings.asks_for_tokens else pb.AUTHENTICATION_OPEN

    async def get(self) -> pb.Info:
        """Return what is installed, and which of its parts answer."""
        kinds, database, *serving = await asyncio.gather(
            self._kinds(), self._platform.database.fetchval("SHOW server_version"), *map(self._serves, DEFAULT_PORTS)
        )
        services = [
            pb.ServiceInfo(service=name, address=self._settings.address_of(name), serving=answers)
            for name, answers in zip(DEFAULT_PORTS, serving, strict=True)
        ]
        runtimes = {name for device in load_catalog().devices.values() for name in device.buildable_runtimes}
        return pb.Info(
            version=metadata.version("lathe"),
            build=self._settings.build,
            services=services,
            stores=[
                pb.StoreInfo(store="database", kind=f"PostgreSQL {str(database).split(' ', maxsplit=1)[0]}"),
                pb.StoreInfo(store="bus", kind=self._bus_kind()),
                pb.StoreInfo(store="objects", kind="S3"),
            ],
            authentication=self._mode,
            task_kinds=kinds,
            runtimes=sorted(runtimes),
            model_formats=[number(ModelFormat, name) for name in CONVERTIBLE],
            limits=pb.Limits(
                max_message_bytes=MAX_MESSAGE_BYTES,
                max_page_size=MAX_PAGE_SIZE,
                default_deadline=_seconds(self._settings.default_deadline_seconds),
                max_deadline=_seconds(self._settings.max_deadline_seconds),
                max_user_priority=MOST_PRIORITY_OF_USERS,
                max_attempts=self._settings.max_attempts,
            ),
        )

    def who(self) -> pb.Identity:
        """Return who calls."""
        caller = current_caller()
        roles = [pb.ROLE_USER]
        if may_administer():
            roles.append(pb.ROLE_ADMIN)
        if caller.proof in (Proof.NOTHING, Proof.SERVICE):
            roles.append(pb.ROLE_SERVICE)
        identity = pb.Identity(
            user=caller.user, authentication=_CREDENTIALS[caller.credential], roles=roles, groups=sorted(caller.groups)
        )
        for project, role in sorted((own_roles() or {}).items())[:_MOST_PROJECTS]:
            identity.projects.add(project=project, role=number(ProjectRole, role.name))
        if caller.expires is not None:
            identity.expire_time.FromDatetime(caller.expires)
        return identity

    async def _kinds(self) -> list[str]:
        try:
            return await projected_kinds(self._platform.bus)
        except (nats.errors.Error, BusUnavailableError, OSError, TimeoutError):
            return []

    async def _serves(self, service: str) -> bool:
        if service == "registry":
            return True  # it is answering
        stub = health_pb2_grpc.HealthStub(self._platform.channel(service))
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _bus_kind(self) -> str:
        bus = self._platform.bus
        if not bus.connected:
            return "NATS, which does not answer"
        version = bus.nc.connected_server_version
        return f"NATS {version.major}.{version.minor}.{version.patch}"


def _seconds(seconds: float) -> Duration:
    told = Duration()
    told.FromMilliseconds(round(seconds * 1000))
    return told
