"""Imports when something dies in the middle, and when nobody wants them any more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_IMPORT_CANCELLED,
    DATASET_STATE_IMPORT_FAILED,
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    CancelDatasetImportRequest,
    Dataset,
    DeleteDatasetRequest,
)
from lathe.type.v1.failure_pb2 import FAILURE_REASON_WORKER_LOST

from services.database.pool import Database
from services.platform.settings import Settings
from services.registry.datasets import imports, job
from services.registry.datasets.imports import import_backlog
from services.registry.main import NEEDS, build
from tests.children import alive
from tests.contract.registry.conftest import Registry, unique
from tests.contract.registry.dataset_desk import Desk, archive, png
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.in_process import serve_in_process
from tests.integration.registry.held_import import HELD


@pytest.fixture
def apart(shared_settings: Settings, database_url: str, tmp_path: Path) -> Settings:
    """Settings of registries whose database and folders nobody else uses."""
    return shared_settings.model_copy(update={"database_url": database_url, "data_dir": tmp_path})


@pytest.fixture
async def database(apart: Settings, desk: Desk) -> AsyncIterator[Database]:
    database = await Database.connect(apart.database_url, "registry")
    yield database
    await database.close()


@pytest.fixture
async def desk(apart: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """A registry that itself imports nothing until a test lets it."""
    monkeypatch.setattr(imports, "AT_ONCE", 0)
    async with (
        serve_in_process("registry", build, apart, NEEDS) as address,
        grpc.aio.insecure_channel(address) as channel,
        httpx.AsyncClient() as http,
    ):
        yield Desk(Registry(channel, http))


@contextmanager
def other_registry(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A registry in a process of its own, on the same database and store, whose imports have no end."""
    environment = {
        **os.environ,
        "LATHE_DATABASE_URL": settings.database_url,
        "LATHE_NATS_URL": settings.nats_url,
        "LATHE_S3_ENDPOINT": settings.s3_endpoint,
        "LATHE_S3_ACCESS_KEY": settings.s3_access_key,
        "LATHE_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "LATHE_S3_BUCKET": settings.s3_bucket,
        "LATHE_DATA_DIR": str(settings.data_dir),
        "LATHE_PORT": "0",
        # Its imports go on while it only tells that it goes away.
        "LATHE_SHUTDOWN_PAUSE_SECONDS": "0",
    }
    code = (
        "from services.platform import settings; settings.DEFAULT_PORTS['registry'] = 0\n"
        "from tests.integration.registry.held_import import hold; hold()\n"
        "from services.registry.main import main; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def images(count: int) -> bytes:
    return archive({f"cat/{number}.png": png(40_000 + number, 300, 300) for number in range(count)})


def hold_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HELD.items():
        monkeypatch.setattr(job, name, value)


async def holder(database: Database) -> Any:
    return await database.fetchval("SELECT holder FROM dataset_imports")


async def test_an_import_outlives_the_process_that_does_it(
    desk: Desk, apart: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await desk.begin(images(20))
    with other_registry(apart) as process:

        async def claimed() -> bool:
            return await holder(database) is not None

        await eventually(claimed)
        await eventually(lambda: bool(children_of(apart, process.pid)))
        below = children_of(apart, process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert await database.fetchval("SELECT attempts FROM dataset_imports") == 1
        await pass_leases(database)
        monkeypatch.setattr(imports, "AT_ONCE", 2)
        made = await desk.settled(begun)
    assert (made.state, made.item_count) == (DATASET_STATE_READY, 20)
    assert await database.fetchval("SELECT count(*) FROM dataset_imports") == 0
    # The child of the dead one is dead too, and what it left is swept.
    await eventually(lambda: not any(map(alive, below)))
    assert [path.name for path in apart.work_dir.iterdir()] == []


async def test_a_process_that_stops_gives_its_import_back(
    desk: Desk, apart: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await desk.begin(images(20))
    with other_registry(apart) as process:

        async def claimed() -> bool:
            return await holder(database) is not None

        await eventually(claimed)
        process.terminate()
        await asyncio.to_thread(process.wait, PATIENCE_SECONDS)
    row = await database.fetchrow("SELECT attempts, holder FROM dataset_imports")
    assert row is not None
    assert (row["attempts"], row["holder"]) == (0, None)
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    assert (await desk.settled(begun)).state == DATASET_STATE_READY


async def test_an_import_that_kills_its_processes_is_given_up(
    desk: Desk, apart: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await desk.begin(images(1))
    await database.execute("UPDATE dataset_imports SET attempts = $1", apart.max_attempts)
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    made = await desk.settled(begun)
    assert (made.state, made.failure.reason) == (DATASET_STATE_IMPORT_FAILED, FAILURE_REASON_WORKER_LOST)


async def test_deleting_ends_an_import(
    desk: Desk, apart: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    hold_imports(monkeypatch)
    begun = await desk.begin(images(20))

    async def runs() -> bool:
        return bool(children_of(apart))

    async def ended() -> bool:
        return not children_of(apart) and not [*apart.work_dir.iterdir()]

    await eventually(runs)
    await desk.datasets.DeleteDataset(DeleteDatasetRequest(name=begun.name))
    assert await holder(database) is None
    await eventually(ended)


async def test_an_import_can_be_cancelled(
    desk: Desk, apart: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    hold_imports(monkeypatch)
    begun = await desk.begin(images(20))

    async def runs() -> bool:
        return bool(children_of(apart))

    async def ended() -> bool:
        return not children_of(apart)

    await eventually(runs)
    request = CancelDatasetImportRequest(name=begun.name)
    for _ in range(2):
        assert (await desk.datasets.CancelDatasetImport(request)).state == DATASET_STATE_IMPORT_CANCELLED
    await eventually(ended)
    assert (await desk.settled(begun)).state == DATASET_STATE_IMPORT_CANCELLED
    assert await database.fetchval("SELECT count(*) FROM dataset_imports") == 0
    monkeypatch.undo()
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    made = await desk.ready(images(1))
    late = await desk.registry.refused(desk.datasets.CancelDatasetImport(CancelDatasetImportRequest(name=made.name)))
    assert late.reason == "DATASET_NOT_IMPORTING"


async def test_a_deletion_elsewhere_ends_an_import(
    desk: Desk, apart: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    hold_imports(monkeypatch)
    begun = await desk.begin(images(20))

    async def runs() -> bool:
        return bool(children_of(apart))

    async def ended() -> bool:
        return not children_of(apart)

    await eventually(runs)
    await database.execute("DELETE FROM datasets WHERE name = $1", begun.name)
    await eventually(ended)


def children_of(settings: Settings, parent: int | None = None) -> list[psutil.Process]:
    """Return the processes below one that import for a registry; servers fork for connections meanwhile."""
    return [each for each in psutil.Process(parent).children(recursive=True) if str(settings.data_dir) in told(each)]


async def pass_leases(database: Database) -> None:
    """Let leases pass, as if whoever has them had not run for as long as they last."""
    await database.execute("UPDATE dataset_imports SET lease_time = now()")


def told(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


async def test_a_claim_is_one_process_s_until_its_lease_passes(desk: Desk, database: Database) -> None:
    begun: Dataset = await desk.begin(images(1), display_name=unique("Data"))
    assert begun.state == DATASET_STATE_IMPORTING
    one, other = (import_backlog(database, timedelta(minutes=10)) for _ in range(2))
    first = await one.claim()
    assert first is not None
    assert await other.claim() is None
    assert await one.renew(first, 0.5)
    assert await other.progress([begun.name]) == {begun.name: 0.5}
    await pass_leases(database)
    second = await other.claim()
    assert second is not None
    assert (second.key, second.attempt) == (begun.name, 2)
    # The first one woke up again: it has nothing to say any more.
    assert not await one.renew(first, 0.9)
    await one.give_back(first)
    async with database.transaction() as connection:
        assert not await one.end(connection, first)
    assert await other.renew(second, 0.1)
    await other.give_back(second, counted=False)
    third = await other.claim()
    assert third is not None
    assert third.attempt == 2
