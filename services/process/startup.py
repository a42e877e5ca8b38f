"""The first seconds of a process: wait for the servers that it needs, and bring its schema up to date."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import importlib.util
import multiprocessing
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import structlog

from services.platform.settings import Settings, without_passwords

_PR_SET_PDEATHSIG = 1
_PAUSE = 0.5
_REMIND = 5.0
_ATTEMPT = 5.0
_GC_THRESHOLD = 50_000
_log: Any = structlog.get_logger("lathe.startup")

T = TypeVar("T")


class StartupError(Exception):
    """The process cannot start; the text tells the operator why."""


def tune_collector() -> None:
    """Leave what the start made out of every later garbage collection, and collect less often. For once, when ready.

    A busy process makes 700 objects, the default between collections, within a call or two, and nearly all of them die
    by themselves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)


async def wait_for(server: str, variable: str, url: str, seconds: float, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try `attempt` until it succeeds, and return its result.

    Args:
        server: What is waited for, such as "PostgreSQL".
        variable: The setting that holds its address.
        url: Where it should be.
        seconds: How long to wait.
        attempt: Connects, or raises.

    Raises:
        StartupError: It did not answer in time.
    """
    loop = asyncio.get_running_loop()
    started, reminded, where = loop.time(), -_REMIND, without_passwords(url)
    while True:
        try:
            async with asyncio.timeout(min(_ATTEMPT, max(seconds, _PAUSE))):
                return await attempt()
        except TimeoutError:
            cause = "no answer"
        except Exception as error:  # drivers raise what they like; the text tells which it was
            cause = f"{type(error).__name__}: {error}".removesuffix(": ")
        waited = loop.time() - started
        if waited >= seconds:
            raise StartupError(
                f"{server} does not answer at {where} (waited {seconds:g} s; last: {cause}). Start it, or set "
                f"{variable} to its address."
            )
        if waited - reminded >= _REMIND:
            reminded = waited
            _log.warning(
                f"waiting for {server}", at=where, setting=variable, cause=cause, seconds_left=round(seconds - waited)
            )
        await asyncio.sleep(_PAUSE)


async def prepare_schema(settings: Settings, service: str) -> None:
    """Wait for PostgreSQL and bring the schemas of a service to their newest version.

    A part of it with migrations of its own, `services/optimizer/profiles`, has a schema of that name.

    Raises:
        StartupError: PostgreSQL does not answer, a newer release has migrated the schema, or the owner of the database
            has to bring the shared one up.
    """
    import asyncpg

    from services.database.migration import NewerSchemaError, SharedSchemaError
    from services.database.pool import migrate

    async def answers() -> None:
        try:
            await (await asyncpg.connect(settings.database_url)).close()
        except asyncpg.InvalidCatalogNameError:
            return  # it answers; the migration creates the database

    await wait_for("PostgreSQL", "LATHE_DATABASE_URL", settings.database_url, settings.startup_wait_seconds, answers)
    for schema, package in migrations_of(service):
        try:
            await migrate(settings.database_url, schema, importlib.import_module(package))
        except (NewerSchemaError, SharedSchemaError) as error:
            raise StartupError(str(error)) from error


def migrations_of(service: str) -> Iterator[tuple[str, str]]:
    """Yield the schemas of a service, each with the package of its migrations."""
    found = importlib.util.find_spec(f"services.{service}")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("migrations/__init__.py")):
            yield service, f"services.{service}.{path.parent.name}"
        for path in sorted(Path(folder).glob("*/migrations/__init__.py")):
            yield path.parents[1].name, f"services.{service}.{path.parents[1].name}.migrations"


def prepare_schema_apart(settings: Settings, service: str) -> None:
    """Do `prepare_schema` in a forked process, which takes Alembic's 20 MB with it when it ends.

    Called before this process has any thread or event loop.

    Raises:
        SystemExit: It failed; the child has said why.
    """
    child = multiprocessing.get_context("fork").Process(target=_prepare, args=(settings, service), daemon=True)
    child.start()
    child.join()
    if child.exitcode:
        sys.exit(child.exitcode)


def _prepare(settings: Settings, service: str) -> None:
    # Who waits for this process may be killed outright; it must not stay behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        asyncio.run(prepare_schema(settings, service))
    except StartupError as error:
        refuse(service, error)


def refuse(service: str, error: Exception, status: int = 1) -> None:
    """End the process with a sentence on standard error."""
    sys.stderr.write(f"lathe {service} cannot start: {error}\n")
    sys.exit(status)
