"""How a service that is not the registry finds out how much projects may use."""

from __future__ import annotations

import grpc
from lathe.internal.v1.registry_service_pb2 import QuotaTable, ReadQuotasRequest
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub
from lathe.registry.v1.project_service_pb2 import Quotas

from services.platform.identity import acting_as
from services.platform.quotas import Limits, Table

ASK_SECONDS = 5.0


class RegistryQuotas:
    """Asks the registry."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        self._stub = RegistryServiceStub(registry)

    async def fetch(self) -> Table:
        """Return the limits of all projects; the registry's error if it cannot answer."""
        with acting_as("lathe"):  # whoever calls just now has nothing to do with it
            return table_of(await self._stub.ReadQuotas(ReadQuotasRequest(), timeout=ASK_SECONDS))


def table_of(told: QuotaTable) -> Table:
    """Return what a message tells: what a project does not state is as for the others."""
    others = _limits(told.defaults, Limits())
    return Table({name: _limits(quotas, others) for name, quotas in told.projects.items()}, others)


def _limits(quotas: Quotas, others: Limits) -> Limits:
    return Limits(
        quotas.waiting_tasks if quotas.HasField("waiting_tasks") else others.waiting_tasks,
        quotas.running_tasks if quotas.HasField("running_tasks") else others.running_tasks,
        quotas.open_uploads if quotas.HasField("open_uploads") else others.open_uploads,
        quotas.stored_bytes if quotas.HasField("stored_bytes") else others.stored_bytes,
        quotas.calls_per_second if quotas.HasField("calls_per_second") else others.calls_per_second,
    )
