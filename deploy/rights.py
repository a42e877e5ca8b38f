"""Writes what the stores have to know of rights: NATS users and policies of MinIO, from the tables in `services`.

`make rights` runs it, and a test holds the files to it. Passwords are variables there, of the server's environment:
NATS_PASSWORD_REGISTRY and so on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from engines.spec.devices import load_catalog
from services.bus.rights import Rights, authorization, registry_rights, service_rights, watcher_rights, worker_rights
from services.local.roster import SERVICES
from services.storage.rights import policy

HERE = Path(__file__).parent
OWNER = "lathe"
BUCKET = "lathe"
_HEAD = "# Made by `make rights` from services/bus/rights.py: the users, and what each may do.\n"


def kinds() -> list[str]:
    """Return every kind of task."""
    return [kind for service in SERVICES for kind in service.kinds]


def services() -> dict[str, Rights]:
    """Return the users of the services, and the one of those who read all changes."""
    devices = list(load_catalog().devices)
    users = {each.name: registry_rights(each.changes) for each in SERVICES if each.changes}
    users |= {each.name: service_rights(each.kinds, devices) for each in SERVICES if each.kinds}
    return {**users, "watcher": watcher_rights()}


def devices() -> dict[str, Rights]:
    """Return a user for the workers of each device that this release builds for."""
    built = [device.id for device in load_catalog().devices.values() if device.buildable_runtimes]
    return {f"worker-{device}": worker_rights(kinds(), device) for device in built}


def machine() -> dict[str, Rights]:
    """Return the one user for the workers of a single machine, whatever its devices are."""
    each = list(devices().values())
    publish, subscribe = _all(one.publish for one in each), _all(one.subscribe for one in each)
    return {"worker": Rights(publish, subscribe)}


def variable(user: str) -> str:
    """Return the variable that holds the password of a user."""
    return "NATS_PASSWORD" if user == OWNER else "NATS_PASSWORD_" + user.upper().replace("-", "_")


def files() -> dict[Path, str]:
    """Return every file with its text."""
    made = {
        HERE / "kubernetes/overlays/complete/nats-users.conf": _users(services() | devices()),
        HERE / "compose/nats-users.conf": _users(services() | machine()),
    }
    for role in ("registry", "tasks", "worker"):
        text = json.dumps(policy(role, BUCKET), indent=2) + "\n"
        made |= {HERE / f"{place}/minio-{role}.json": text for place in ("compose", "kubernetes/overlays/complete")}
    return made


def _users(users: Mapping[str, Rights]) -> str:
    return _HEAD + authorization(OWNER, users, {user: f"${variable(user)}" for user in (OWNER, *users)})


def _all(subjects: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for some in subjects for each in some))


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
