"""Backups of a suite: the database at one moment, then every object of the bucket.

The order is what makes it consistent while the suite runs: stored bytes are named by their digest, and removed only a
grace (LATHE_GC_GRACE_HOURS) after the last reference to them went. So all that the dump refers to is in the bucket for
as long as that. NATS is left out: what is on the way there follows from the database (ARCHITECTURE.md, "The life of a
task").
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from services.local import copies, dumps
from services.local.endpoints import read_endpoints
from services.local.errors import LocalError
from services.local.lock import DataDirLock
from services.local.servers import Servers
from services.platform.settings import Settings
from services.storage.bucket import Bucket

T = TypeVar("T")
_NOTE, _DUMP, _LIST, _BLOBS = "backup.json", "database.dump", "objects.jsonl", "blobs"


@dataclass(frozen=True)
class Backup:
    """What `backup.json` says.

    Attributes:
        time: When the dump was begun, in RFC 3339.
        version: Of Lathe.
        objects: How many objects of the bucket it has.
        bytes: What they hold in all.
        damaged: Keys of stored bytes that do not have their digest any more, which it lacks.
    """

    time: str
    version: str
    objects: int
    bytes: int
    damaged: tuple[str, ...] = ()


def back_up(folder: Path, data_dir: Path, environment: Mapping[str, str]) -> Backup:
    """Copy a suite into a folder, running or not; an earlier backup there is replaced once the new one is whole.

    Args:
        folder: Where to; objects that it has already are not copied again.
        data_dir: Of the embedded servers.
        environment: May name other servers, as for `lathe up`.

    Raises:
        LocalError: A server does not answer or does not start, or there is nothing to back up.
    """
    (folder / _BLOBS).mkdir(parents=True, exist_ok=True, mode=0o700)
    began = datetime.now(UTC).isoformat(timespec="seconds")
    with _servers(data_dir, environment, must_exist=True) as settings:
        draft, listing = folder / f"{_DUMP}.draft", folder / f"{_LIST}.draft"
        dumps.dump(settings.database_url, draft)
        objects, damaged = _in_bucket(settings, lambda bucket: copies.copy_out(bucket, folder / _BLOBS))
    copies.write_list(listing, objects)
    made = Backup(began, version("lathe"), len(objects), sum(each.size_bytes for each in objects), tuple(damaged))
    # Without its note, a folder is no backup: neither the old one nor half of the new one.
    (folder / _NOTE).unlink(missing_ok=True)
    draft.replace(folder / _DUMP)
    listing.replace(folder / _LIST)
    note = folder / f"{_NOTE}.draft"
    note.write_text(json.dumps(asdict(made), indent=2) + "\n", encoding="utf-8")
    note.replace(folder / _NOTE)
    copies.remove_others(folder / _BLOBS, objects)
    return made


def restore(folder: Path, data_dir: Path, environment: Mapping[str, str]) -> Backup:
    """Bring a backup into a suite that has never run; the objects first, so that no row ever lacks its bytes.

    Args and errors: as `back_up`. A restore that was interrupted is begun again.
    """
    made = _read(folder)
    with _servers(data_dir, environment, must_exist=False) as settings:
        if not dumps.is_empty(settings.database_url):
            raise LocalError(
                "The database has been used by Lathe already. A backup is restored into an empty one: choose another "
                "folder with --data-dir, or create a new database, and stop the services until it is restored."
            )
        if asyncio.run(_used(settings.nats_url)):
            raise LocalError(
                "NATS holds streams of another state, which would not fit the restored one. Stop the services, and "
                "remove its files, or its streams with `nats stream rm`."
            )
        _in_bucket(settings, lambda bucket: copies.copy_in(bucket, folder / _BLOBS, copies.read_list(folder / _LIST)))
        dumps.load(settings.database_url, folder / _DUMP)
    return made


@contextmanager
def _servers(data_dir: Path, environment: Mapping[str, str], *, must_exist: bool) -> Iterator[Settings]:
    """Yield the settings of the servers of a suite; its embedded ones are started unless they run."""
    data_dir = data_dir.resolve()
    servers, lock = Servers(data_dir, environment), DataDirLock(data_dir)
    if must_exist and not all(each.data_dir.exists() for name, each in servers.own.items() if name != "nats"):
        raise LocalError(f"There is no state of Lathe in {data_dir}; --data-dir names another folder.")
    try:
        lock.acquire()
    except LocalError:
        running = read_endpoints(data_dir) if must_exist else None
        if running is None:
            raise
        for part in running.parts:
            if part.name in servers.own:
                servers.own[part.name].port = int(part.address.rpartition(":")[2])
        yield _settings(servers, environment)
        return
    try:
        servers.start(lambda _name: None)
        yield _settings(servers, environment)
    finally:
        servers.stop()
        lock.release()


def _settings(servers: Servers, environment: Mapping[str, str]) -> Settings:
    values: dict[str, Any] = {**environment, **servers.settings()}
    return Settings(**{name.removeprefix("LATHE_").lower(): values[name] for name in values if name[:6] == "LATHE_"})


def _in_bucket(settings: Settings, work: Callable[[Bucket], T]) -> T:
    bucket = Bucket.of(settings)
    return asyncio.run(bucket.run(lambda _client, _stop: work(bucket)))


def _read(folder: Path) -> Backup:
    try:
        return Backup(**json.loads((folder / _NOTE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise LocalError(f"{folder} is no whole backup: it has no {_NOTE}.") from None


async def _used(nats_url: str) -> bool:
    import nats

    connection = await nats.connect(nats_url, connect_timeout=5, allow_reconnect=False)
    try:
        return bool(await connection.jetstream().streams_info())
    finally:
        await connection.close()
