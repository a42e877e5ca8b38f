"""What KEDA asks a task service: how many workers a pool needs (`externalscaler.ExternalScaler`).

A pool is the workers of one device. The metadata of a trigger says which tasks count: `device`, `kinds` (all of the
service by default), and how many tasks one worker is wanted for (`tasksPerWorker`, 1 by default).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from lathe.internal.keda import externalscaler_pb2 as pb

from services.platform.errors import invalid_argument
from services.process.server import ServiceParts
from services.tasks.api.demand import Demand

SERVICE = "externalscaler.ExternalScaler"
MOST_TASKS_PER_WORKER = 10_000
_OWN = ("device", "kinds", "tasksPerWorker")
# What KEDA itself reads of the metadata, and sends along.
_OF_KEDA = frozenset(
    {"scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey", "tlsCertFile"}
)


class Pool(NamedTuple):
    """What a trigger asks about."""

    device: str
    kinds: tuple[str, ...]
    tasks_per_worker: int


class Scaler:
    """Answers for the kinds of one service, each of which joins. `devices` are those of the catalog."""

    def __init__(self, service: str, devices: Iterable[str]) -> None:
        self._service = service
        self.devices = tuple(devices)
        self._demands: dict[str, Demand] = {}

    def join(self, demand: Demand) -> None:
        """Count a kind."""
        self._demands[demand.kind] = demand

    @property
    def parts(self) -> ServiceParts:
        """What it adds to the server."""
        return ServiceParts(self._register, [SERVICE])

    async def is_active(self, request: pb.ScaledObjectRef, _context: Any) -> pb.IsActiveResponse:
        """Tell whether a pool needs any worker."""
        pool = self._pool(request.scalerMetadata, "")
        return pb.IsActiveResponse(result=await self._wanted(pool) > 0)

    async def stream_is_active(self, request: pb.ScaledObjectRef, _context: Any) -> AsyncIterator[pb.IsActiveResponse]:
        """Tell whether a pool needs any worker, now and at every change."""
        pool = self._pool(request.scalerMetadata, "")
        demands = [self._demands[kind] for kind in pool.kinds]
        changed = asyncio.Event()
        with ExitStack() as stack:
            for demand in demands:
                stack.enter_context(demand.watched(pool.device, changed))
            active = await self._wanted(pool) > 0
            while True:
                yield pb.IsActiveResponse(result=active)
                told = active
                while active == told:
                    await changed.wait()
                    changed.clear()
                    active = any(demand.latest(pool.device) for demand in demands)

    async def get_metric_spec(self, request: pb.ScaledObjectRef, _context: Any) -> pb.GetMetricSpecResponse:
        """Tell the metric of a pool, and its target: tasks for each worker."""
        pool = self._pool(request.scalerMetadata, "")
        target = pool.tasks_per_worker
        spec = pb.MetricSpec(metricName=self._metric(pool), targetSize=target, targetSizeFloat=target)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def get_metrics(self, request: pb.GetMetricsRequest, _context: Any) -> pb.GetMetricsResponse:
        """Tell how many tasks of a pool wait or run."""
        pool = self._pool(request.scaledObjectRef.scalerMetadata, "scaledObjectRef.")
        wanted = await self._wanted(pool)
        value = pb.MetricValue(metricName=self._metric(pool), metricValue=wanted, metricValueFloat=wanted)
        return pb.GetMetricsResponse(metricValues=[value])

    async def _wanted(self, pool: Pool) -> int:
        counts = await asyncio.gather(*(self._demands[kind].counts() for kind in pool.kinds))
        return sum(each.get(pool.device, 0) for each in counts)

    def _metric(self, pool: Pool) -> str:
        return f"lathe-{self._service}-{pool.device}"

    def _pool(self, metadata: Mapping[str, str], path: str) -> Pool:
        """Return what a trigger's metadata ask about; LatheError if they are wrong."""
        where = f"{path}scalerMetadata"
        for key in metadata:
            if key not in _OWN and key not in _OF_KEDA and not key.endswith("FromEnv"):
                raise invalid_argument(f"{where}.{key}", f"there is no such key; write {', '.join(_OWN)}")
        device = metadata.get("device", "")
        if device not in self.devices:
            found = f"the catalog has no device '{device}'" if device else "it is required"
            raise invalid_argument(f"{where}.device", f"{found}; write one of {', '.join(self.devices)}")
        kinds = tuple(dict.fromkeys(name for each in metadata.get("kinds", "").split(",") if (name := each.strip())))
        if strange := [kind for kind in kinds if kind not in self._demands]:
            told = f"the {self._service} has no tasks of the kind '{strange[0]}'"
            raise invalid_argument(f"{where}.kinds", f"{told}; write {_listed(self._demands)}, or nothing for all")
        tasks = metadata.get("tasksPerWorker", "1").strip()
        if not (tasks.isascii() and tasks.isdigit() and 1 <= int(tasks) <= MOST_TASKS_PER_WORKER):
            told = f"'{tasks}' is no whole number from 1 to {MOST_TASKS_PER_WORKER}"
            raise invalid_argument(f"{where}.tasksPerWorker", f"{told}; write the tasks that one worker is wanted for")
        return Pool(device, kinds or tuple(self._demands), int(tasks))

    def _register(self, server: grpc.aio.Server) -> None:
        behaviors: dict[str, Any] = {
            "IsActive": self.is_active,
            "StreamIsActive": self.stream_is_active,
            "GetMetricSpec": self.get_metric_spec,
            "GetMetrics": self.get_metrics,
        }
        methods = pb.DESCRIPTOR.services_by_name["ExternalScaler"].methods
        handlers = {method.name: _handler(method, behaviors[method.name]) for method in methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _handler(method: MethodDescriptor, behavior: Any) -> grpc.RpcMethodHandler[Any, Any]:
    request, response = (message_factory.GetMessageClass(each) for each in (method.input_type, method.output_type))
    make: Any = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
    handler: grpc.RpcMethodHandler[Any, Any] = make(behavior, request.FromString, response.SerializeToString)
    return handler


def _listed(kinds: Collection[str]) -> str:
    return " or ".join(kinds)
