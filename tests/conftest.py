"""Real servers for tests: each is started once per session, when the first test asks for it, in a temporary folder.

`make test` runs several processes, each of which is a session with servers of its own (`tests/scheduling.py`).

| fixture             | scope    | gives                                                               |
|---------------------|----------|---------------------------------------------------------------------|
| `new_database`      | session  | a function: makes a database, returns its URL (below)               |
| `postgres_url`      | session  | one database shared by the session                                  |
| `database_url`      | function | an empty database of the test's own                                 |
| `echo_database_url` | function | one with the tables of `tests.integration.tasks`' tiny kind of task |
| `new_nats_url`      | session  | a function: starts an empty NATS server, returns its URL            |
| `nats_url`          | session  | one NATS server shared by the session                               |
| `fresh_nats_url`    | function | an empty NATS server of the test's own (25 ms)                      |
| `s3_settings`       | session  | the `s3_*` arguments of `Settings`                                  |
| `settings`          | function | `Settings` with `database_url`, `fresh_nats_url`, `s3_settings`     |
| `shared_settings`   | session  | `Settings` with the shared servers, for fixtures of session scope   |
| `exporter`          | session  | collects every span of the session                                  |

`new_database` is given schemas, each with the package of its migrations: what `migrations_of` yields. They are brought
up to date once per session, and copied: a copy costs little more than an empty database.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from services.local.nats import NatsServer
from services.local.postgres import PostgresServer
from services.local.roster import SERVICES
from services.local.s3 import S3Server
from tests import scheduling

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from services.platform.settings import Settings

# A job in the background of a shell ignores Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No example may fail because something else keeps the machine busy.
hypothesis.settings.register_profile("lathe", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("lathe")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.Scheduler | None:
    """Let `--dist loadfile` keep the tests of the shared suite together."""
    return scheduling.Scheduler(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes long go first."""
    items.sort(key=lambda item: scheduling.rank(item.nodeid))


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """Collects every span of the session: a process has one tracer provider for good."""
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from services.platform import telemetry

    exporter = InMemorySpanExporter()
    telemetry.export_spans(exporter, "toy")
    return exporter


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path_factory.mktemp("postgres"), durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def new_database(postgres_server: PostgresServer) -> Callable[..., str]:
    templates: dict[tuple[tuple[str, str], ...], str] = {}

    async def create(template: str) -> str:
        import asyncpg

        name = f"test_{uuid.uuid4().hex}"
        connection = await asyncpg.connect(postgres_server.database_url("postgres"))
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        finally:
            await connection.close()
        return name

    async def prepared(*schemas: tuple[str, str]) -> str:
        from services.database.pool import migrate

        name = await create("template1")
        for schema, package in schemas:
            await migrate(postgres_server.database_url(name), schema, importlib.import_module(package))
        return name

    def make(*schemas: tuple[str, str]) -> str:
        # In a thread: the event loop of the tests may be running in this one.
        with ThreadPoolExecutor(max_workers=1) as pool:
            if schemas and schemas not in templates:
                templates[schemas] = pool.submit(lambda: asyncio.run(prepared(*schemas))).result()
            template = templates.get(schemas, "template1")
            return postgres_server.database_url(pool.submit(lambda: asyncio.run(create(template))).result())

    return make


@pytest.fixture(scope="session")
def postgres_url(new_database: Callable[..., str]) -> str:
    return new_database()


@pytest.fixture
def database_url(new_database: Callable[..., str]) -> str:
    return new_database()


@pytest.fixture
def echo_database_url(new_database: Callable[..., str]) -> str:
    return new_database(("echo", "tests.integration.tasks.migrations"))


@pytest.fixture(scope="session")
def new_nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    with ExitStack() as servers:

        def make() -> str:
            server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
            server.start()
            servers.callback(server.stop)
            return server.url

        yield make


@pytest.fixture(scope="session")
def nats_url(new_nats_url: Callable[[], str]) -> str:
    return new_nats_url()


@pytest.fixture
def fresh_nats_url(tmp_path: Path) -> Iterator[str]:
    server = NatsServer(tmp_path / "nats", durable=False)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def s3_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield {
        "s3_endpoint": server.endpoint,
        "s3_access_key": server.access_key,
        "s3_secret_key": server.secret_key,
        "s3_bucket": server.bucket,
        "s3_region": server.region,
    }
    server.stop()


def _apart(settings: Settings) -> Settings:
    """Return settings whose services are where nobody answers, also while a suite runs at the usual addresses."""
    from tests.in_process import with_free_addresses

    return with_free_addresses(settings, *(entry.name for entry in SERVICES))


@pytest.fixture
def settings(database_url: str, fresh_nats_url: str, s3_settings: dict[str, str], tmp_path: Path) -> Settings:
    from services.platform.settings import Settings

    return _apart(
        Settings.model_validate(
            {"database_url": database_url, "nats_url": fresh_nats_url, "data_dir": tmp_path, **s3_settings}
        )
    )


@pytest.fixture(scope="session")
def shared_settings(
    postgres_url: str, nats_url: str, s3_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    from services.platform.settings import Settings

    data_dir = tmp_path_factory.mktemp("data")
    return _apart(
        Settings.model_validate(
            {"database_url": postgres_url, "nats_url": nats_url, "data_dir": data_dir, **s3_settings}
        )
    )
