"""The users of the embedded NATS server: one for each process of the suite that has work there."""

from __future__ import annotations

from collections.abc import Iterable

from engines.spec.devices import load_catalog
from services.bus.rights import Rights, registry_rights, service_rights, worker_rights
from services.local.roster import ServiceEntry, WorkerEntry


def bus_users(services: Iterable[ServiceEntry], workers: Iterable[WorkerEntry], device: str) -> dict[str, Rights]:
    """Return the rights of each process by its name; `device` is that of the workers that name none."""
    devices = list(load_catalog().devices)
    users = {each.name: service_rights(each.kinds, devices) for each in services if each.kinds}
    users |= {each.name: registry_rights(each.changes) for each in services if each.changes}
    return users | {each.name: worker_rights([each.kind], each.device or device) for each in workers}
