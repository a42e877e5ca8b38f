"""Health: SERVING while the servers behind a service answer, NOT_SERVING while one does not or while it drains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

Probe = Callable[[], Awaitable[object]]

_PERIOD = 2.0
_PROBE_TIMEOUT = 3.0
# One slow answer takes no service out of its load balancer.
_TOLERATED = 1
# Says only that the process answers. To restart it because another server is away would help nobody.
LIVE = "live"
_log: Any = structlog.get_logger("lathe.health")


class _Servicer(health.HealthServicer):  # type: ignore[misc]  # published without types
    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 - as the proto has it
        """Return the status of each service."""
        check = health_pb2.HealthCheckResponse
        statuses = {name: check(status=status) for name, status in self._server_status.items()}
        return health_pb2.HealthListResponse(statuses=statuses)


class Health:
    """Watches the servers behind a service and reports to the health service.

    Args:
        service_names: Full names of the services; the overall health is reported under "", too, and that the process
            answers at all under "live".
        probes: By the server's name, a function that returns if it answers and raises if it does not.
    """

    def __init__(self, service_names: Sequence[str], probes: Mapping[str, Probe]) -> None:
        self._servicer = _Servicer()
        self._names = ["", *service_names]
        self._probes = dict(probes)
        self._failures = dict.fromkeys(probes, 0)
        self._serving: bool | None = None

    async def register(self, server: grpc.aio.Server) -> None:
        """Add the health service to a server; NOT_SERVING until the first check."""
        await self._publish(False)
        await self._servicer.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def watch(self) -> None:
        """Check until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(_PERIOD)

    async def check(self) -> bool:
        """Probe every server once, publish what follows, and return whether all answered."""
        silent = [name for name in await asyncio.gather(*map(self._probe, self._probes)) if name]
        first = self._serving is None
        if not silent and not self._serving:
            self._serving = True
            await self._publish(True)
            if not first:
                _log.info("serving again")
        elif silent and (first or self._serving) and (first or self._lasting(silent)):
            self._serving = False
            await self._publish(False)
            _log.warning("not serving", no_answer=", ".join(silent))
        return not silent

    async def drain(self) -> None:
        """Answer NOT_SERVING from now on, regardless of the checks."""
        await self._servicer.enter_graceful_shutdown()

    def _lasting(self, silent: list[str]) -> bool:
        return any(self._failures[name] > _TOLERATED for name in silent)

    async def _probe(self, name: str) -> str:
        """Return the name if the server does not answer, else nothing."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._probes[name]()
        except Exception as error:  # whatever a driver raises, the server cannot be used now
            self._failures[name] += 1
            _log.debug("no answer", server=name, error=f"{type(error).__name__}: {error}")
            return name
        self._failures[name] = 0
        return ""

    async def _publish(self, serving: bool) -> None:
        response = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._servicer.set(name, response.SERVING if serving else response.NOT_SERVING)
