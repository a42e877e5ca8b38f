"""Who each process of the suite is to the embedded servers."""

from __future__ import annotations

from collections.abc import Iterable

from engines.spec.devices import load_catalog
from services.bus.rights import Rights, registry_rights, service_rights, worker_rights
from services.local.roster import ServiceEntry, WorkerEntry
from services.local.servers import Role


def bus_users(services: Iterable[ServiceEntry], workers: Iterable[WorkerEntry], device: str) -> dict[str, Rights]:
    """Return the rights of each process at NATS by its name; `device` is that of the workers that name none."""
    devices = list(load_catalog().devices)
    users = {each.name: service_rights(each.kinds, devices) for each in services if each.kinds}
    users |= {each.name: registry_rights(each.changes) for each in services if each.changes}
    return users | {each.name: worker_rights([each.kind], each.device or device) for each in workers}


def roles_of(services: Iterable[ServiceEntry], workers: Iterable[WorkerEntry]) -> dict[str, Role]:
    """Return the roles of each process by its name: nobody has a role at a server that it does not need."""
    roles = {
        each.name: Role(each.name, each.name if each.kinds or each.changes else "", each.storage) for each in services
    }
    return roles | {each.name: Role(database="", bus=each.name, storage="worker") for each in workers}
