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
from services.registry.datasets import imports
from services.registry.datasets.imports import import_backlog
from services.registry.main import NEEDS, build
from tests.contract.registry.conftest import Registry, unique
from tests.contract.registry.dataset_desk import Desk, archive, png
from tests.in_process import serve_in_process

PATIENCE_SECONDS = 60


@pytest.fixture
def quick(shared_settings: Settings, database_url: str, tmp_path: Path) -> Settings:
    """Settings of registries that notice within two seconds that one of them died."""
    return shared_settings.model_copy(
        update={"database_url": database_url, "ack_wait_seconds": 2.0, "data_dir": tmp_path}
    )


@pytest.fixture
async def database(quick: Settings, desk: Desk) -> AsyncIterator[Database]:
    database = await Database.connect(quick.database_url, "registry")
    yield database
    await database.close()


@pytest.fixture
async def desk(quick: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """A registry that itself imports nothing until a test lets it."""
    monkeypatch.setattr(imports, "AT_ONCE", 0)
    async with (
        serve_in_process("registry", build, quick, NEEDS) as address,
        grpc.aio.insecure_channel(address) as channel,
        httpx.AsyncClient() as http,
    ):
        yield Desk(Registry(channel, http))


@contextmanager
def other_registry(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A registry in a process of its own, on the same database and store."""
    environment = {
        **os.environ,
        "LATHE_DATABASE_URL": settings.database_url,
        "LATHE_NATS_URL": settings.nats_url,
        "LATHE_S3_ENDPOINT": settings.s3_endpoint,
        "LATHE_S3_ACCESS_KEY": settings.s3_access_key,
        "LATHE_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "LATHE_S3_BUCKET": settings.s3_bucket,
        "LATHE_DATA_DIR": str(settings.data_dir),
        "LATHE_ACK_WAIT_SECONDS": str(settings.ack_wait_seconds),
        "LATHE_PORT": "0",
        # Its imports go on while it only tells that it goes away.
        "LATHE_SHUTDOWN_PAUSE_SECONDS": "0",
    }
    code = (
        "from services.platform import settings; settings.DEFAULT_PORTS['registry'] = 0\n"
        "from services.registry.main import main; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


def many_images(count: int) -> bytes:
    """Return an archive whose import takes a while."""
    return archive({f"cat/{number}.png": png(40_000 + number, 300, 300) for number in range(count)})


async def holder(database: Database) -> Any:
    return await database.fetchval("SELECT holder FROM dataset_imports")


async def test_an_import_outlives_the_process_that_does_it(
    desk: Desk, quick: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await desk.begin(many_images(200))
    with other_registry(quick) as process:

        async def claimed() -> bool:
            return await holder(database) is not None

        await until(claimed)
        await asyncio.sleep(0.5)
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert await database.fetchval("SELECT attempts FROM dataset_imports") == 1
        monkeypatch.setattr(imports, "AT_ONCE", 2)
        made = await desk.settled(begun)
    assert (made.state, made.item_count) == (DATASET_STATE_READY, 200)
    assert await database.fetchval("SELECT count(*) FROM dataset_imports") == 0
    # The child of the dead one is dead too, and what it left is swept.
    assert not [child for child in below if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert [path.name for path in quick.work_dir.iterdir()] == []


async def test_a_process_that_stops_gives_its_import_back(
    desk: Desk, quick: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await desk.begin(many_images(200))
    with other_registry(quick) as process:

        async def claimed() -> bool:
            return await holder(database) is not None

        await until(claimed)
        process.terminate()
        await asyncio.to_thread(process.wait, PATIENCE_SECONDS)
    row = await database.fetchrow("SELECT attempts, holder FROM dataset_imports")
    assert row is not None
    assert (row["attempts"], row["holder"]) == (0, None)
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    assert (await desk.settled(begun)).state == DATASET_STATE_READY


async def test_an_import_that_kills_its_processes_is_given_up(
    desk: Desk, quick: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await desk.begin(many_images(1))
    await database.execute("UPDATE dataset_imports SET attempts = $1", quick.max_attempts)
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    made = await desk.settled(begun)
    assert (made.state, made.failure.reason) == (DATASET_STATE_IMPORT_FAILED, FAILURE_REASON_WORKER_LOST)


async def test_deleting_ends_an_import(
    desk: Desk, quick: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    begun = await desk.begin(many_images(200))

    async def runs() -> bool:
        return bool(children_of(quick))

    async def ended() -> bool:
        return not children_of(quick) and not [*quick.work_dir.iterdir()]

    await until(runs)
    await desk.datasets.DeleteDataset(DeleteDatasetRequest(name=begun.name))
    assert await holder(database) is None
    await until(ended)


async def test_an_import_can_be_cancelled(
    desk: Desk, quick: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    begun = await desk.begin(many_images(200))

    async def runs() -> bool:
        return bool(children_of(quick))

    async def ended() -> bool:
        return not children_of(quick)

    await until(runs)
    request = CancelDatasetImportRequest(name=begun.name)
    for _ in range(2):
        assert (await desk.datasets.CancelDatasetImport(request)).state == DATASET_STATE_IMPORT_CANCELLED
    await until(ended)
    assert (await desk.settled(begun)).state == DATASET_STATE_IMPORT_CANCELLED
    assert await database.fetchval("SELECT count(*) FROM dataset_imports") == 0
    made = await desk.ready(many_images(1))
    late = await desk.registry.refused(desk.datasets.CancelDatasetImport(CancelDatasetImportRequest(name=made.name)))
    assert late.reason == "DATASET_NOT_IMPORTING"


async def test_a_deletion_elsewhere_ends_an_import(
    desk: Desk, quick: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "AT_ONCE", 2)
    begun = await desk.begin(many_images(200))

    async def runs() -> bool:
        return bool(children_of(quick))

    async def ended() -> bool:
        return not children_of(quick)

    await until(runs)
    await database.execute("DELETE FROM datasets WHERE name = $1", begun.name)
    await until(ended)


def children_of(settings: Settings) -> list[psutil.Process]:
    """Return the processes below this one that import for a registry; servers fork for connections meanwhile."""
    return [each for each in psutil.Process().children(recursive=True) if str(settings.data_dir) in told(each)]


def told(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


async def test_a_claim_is_one_process_s_until_its_lease_passes(desk: Desk, database: Database) -> None:
    begun: Dataset = await desk.begin(many_images(1), display_name=unique("Data"))
    assert begun.state == DATASET_STATE_IMPORTING
    short, long = import_backlog(database, timedelta(seconds=0.3)), import_backlog(database, timedelta(seconds=60))
    first = await short.claim()
    assert first is not None
    assert await long.claim() is None
    assert await short.renew(first, 0.5)
    assert await long.progress([begun.name]) == {begun.name: 0.5}
    await asyncio.sleep(0.35)
    second = await long.claim()
    assert second is not None
    assert (second.key, second.attempt) == (begun.name, 2)
    # The first one woke up again: it has nothing to say any more.
    assert not await short.renew(first, 0.9)
    await short.give_back(first)
    async with database.transaction() as connection:
        assert not await short.end(connection, first)
    assert await long.renew(second, 0.1)
    await long.give_back(second, counted=False)
    third = await long.claim()
    assert third is not None
    assert third.attempt == 2
