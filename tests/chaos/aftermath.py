"""What is there when everything is quiet again, and what is wrong with it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import nats
import nats.errors
import nats.js.errors
from lathe.registry.v1 import dataset_service_pb2 as dataset
from lathe.registry.v1 import model_service_pb2 as model
from lathe.registry.v1 import release_service_pb2 as release
from lathe.type.v1 import task_pb2
from lathe.type.v1.view_pb2 import VIEW_FULL
from lathe_client.connection import Connection
from lathe_client.tasks import KINDS

from services.bus.topology import TASKS
from services.database.pool import Database
from services.platform.settings import Settings
from services.platform.words import word
from services.siblings.holds import LASTS
from services.storage.bucket import Bucket
from services.storage.keys import STAGING
from tests.chaos import stored
from tests.chaos.installation import REAL, Installation
from tests.chaos.load import CHANNEL, ENDED, MODEL, Load
from tests.chaos.results import BY_AN_ENGINE, wrong_results
from tests.e2e.beasts import COUNT

_REGISTERING = ("conversion", "quantization")
_LEFTOVERS_SECONDS = 240.0
# Tables of work that is not done, and how many schemas have each: nothing of it is left when all is quiet.
_BACKLOGS = {
    "queue": 5,
    "outbox": 5,
    "changes": 6,
    "dataset_imports": 1,
    "dataset_export_work": 1,
    "model_version_import_work": 1,
    "upload_checks": 1,
    "unsettled_channels": 1,
    "comparison_work": 1,
    "model_save_work": 1,
    "garbage_collection_work": 1,
}
_TABLES = """
SELECT table_schema, table_name FROM information_schema.tables
WHERE table_name = ANY ($1) AND table_type = 'BASE TABLE'
"""
# That of a task whose creation was killed stays for as long as a hold lasts that nobody renews.
_HOLDS = """
SELECT holder, expire_time > now() + $1::interval AS lasts
FROM (TABLE registry.holds UNION ALL TABLE registry.dataset_holds) AS held
"""


@dataclass
class Aftermath:
    """What was found.

    Attributes:
        states: Kind of task → state → number.
        attempts: Kind of task → attempts of all its tasks together.
        imports: State → number of datasets.
        releases: Number of releases in the channel.
        blobs: Number of blobs, each of which was read and hashed.
        unreferred: How many of them nobody refers to, as an attempt that was killed had stored them.
        by_engines: Versions that were made by an engine and no stand-in.
        wrong: A sentence for each thing that is not as it has to be.
    """

    states: dict[str, Counter[str]] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    imports: Counter[str] = field(default_factory=Counter)
    releases: int = 0
    blobs: int = 0
    unreferred: int = 0
    by_engines: int = 0
    wrong: list[str] = field(default_factory=list)


def look(installation: Installation, connection: Connection, load: Load) -> Aftermath:
    """Look at everything."""
    after = Aftermath(wrong=[f"refused: {each}" for each in load.done.refusals])
    found = {name: load.listed(kind) for name, kind in KINDS.items()}
    tasks = [task for each in found.values() for task in each]
    for name, those in found.items():
        after.states[name] = Counter(word(task_pb2.TaskState, task.status.state) for task in those)
        after.attempts[name] = sum(len(task.attempts) for task in those)
    after.wrong += _tasks(load, tasks)
    listing = model.ListModelVersionsRequest(parent=MODEL, page_size=1000, view=VIEW_FULL)
    versions = load.pages("registry", connection.models.ListModelVersions, listing, "model_versions")
    after.by_engines = sum(any(file.path == BY_AN_ENGINE for file in each.files) for each in versions)
    after.wrong += _effects(versions, found)
    succeeded = {
        name: [each for each in those if each.status.state == task_pb2.TASK_STATE_SUCCEEDED]
        for name, those in found.items()
    }
    after.wrong += wrong_results(succeeded, {each.name: each for each in versions})
    after.wrong += _watched(load, tasks)
    datasets = load.datasets()
    after.imports = Counter(word(dataset.DatasetState, each.state) for each in datasets)
    after.wrong += _same("datasets", load.done.imports, [each.name for each in datasets])
    after.wrong += [
        f"{each.name} has {each.item_count} items in state {each.state}: {each.failure.message}"
        for each in datasets
        if (each.state, each.item_count) != (dataset.DATASET_STATE_READY, COUNT)
    ]
    asked = release.ListReleasesRequest(parent=CHANNEL, page_size=1000, view=VIEW_FULL)
    releases = load.pages("registry", connection.releases.ListReleases, asked, "releases")
    after.releases = len(releases)
    after.wrong += _same("releases", load.done.releases, [each.name for each in releases])
    settings = Settings.model_validate(
        {
            name.removeprefix("LATHE_").lower(): value
            for name, value in installation.stack.environment().items()
            if name.startswith(("LATHE_S3", "LATHE_DATABASE"))
        }
    )
    after.wrong += _until_clean(installation, settings, {task.name for task in tasks})
    there = stored.read_all(settings)
    after.blobs = len(there.blobs)
    after.wrong += there.spoilt
    after.wrong += stored.missing(there, [*tasks, *versions, *datasets, *releases])
    after.unreferred, wrong = stored.unreferred(connection, there)
    after.wrong += wrong
    return after


def _same(what: str, accepted: list[str], there: list[str]) -> Iterator[str]:
    if lost := set(accepted) - set(there):
        yield f"{len(lost)} {what} were acknowledged and are not there: {min(lost)}"
    if more := set(there) - set(accepted):
        yield f"{len(more)} {what} are there that nobody was told of: {min(more)}"
    if len(accepted) != len(set(accepted)):
        yield f"a name of {what} was given twice"


def _tasks(load: Load, tasks: list[Any]) -> Iterator[str]:
    yield from _same("tasks", load.done.tasks, [task.name for task in tasks])
    for task in tasks:
        if task.status.state not in ENDED:
            yield f"{task.name} has not ended: {word(task_pb2.TaskState, task.status.state)}"
        elif task.status.state != task_pb2.TASK_STATE_SUCCEEDED:
            yield f"{task.name} {word(task_pb2.TaskState, task.status.state)}: {task.status.failure.message}"


def _effects(versions: list[Any], found: dict[str, list[Any]]) -> Iterator[str]:
    """Each task that registers a version has registered one, which is that of its result."""
    made: dict[str, list[str]] = {}
    for each in versions:
        if each.lineage.task:
            made.setdefault(each.lineage.task, []).append(each.name)
    expected = {task.name: task.result.model_version for kind in _REGISTERING for task in found[kind]}
    for name, version in expected.items():
        if made.get(name, []) != [version]:
            yield f"{name} says that it made {version}, and made {made.get(name, [])}"
    if strange := made.keys() - expected.keys():
        yield f"{len(strange)} versions are of tasks that are not there: {min(strange)}"


def _watched(load: Load, tasks: list[Any]) -> Iterator[str]:
    """The watch has told every revision of every task, up to the last."""
    deadline = time.monotonic() + 240.0
    for task in tasks:
        wanted = set(range(1, task.status.revision + 1))
        while (told := load.done.watched[task.uid]).keys() != wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        if told.keys() != wanted:
            yield f"the watch told the revisions {sorted(told)} of {task.name}, which is in {task.status.revision}"


def _until_clean(installation: Installation, settings: Settings, tasks: Collection[str]) -> list[str]:
    """Return what is left over a while after everything has ended."""
    deadline = time.monotonic() + _LEFTOVERS_SECONDS
    while left := asyncio.run(_leftovers(installation, settings, tasks)):
        if time.monotonic() > deadline:
            return left
        time.sleep(1.0)
    return []


async def _leftovers(installation: Installation, settings: Settings, tasks: Collection[str]) -> list[str]:
    left = []
    database = await Database.connect(settings.database_url, "lathe")
    try:
        tables = await database.fetch(_TABLES, list(_BACKLOGS))
        if (there := Counter(table for _, table in tables)) != _BACKLOGS:
            left.append(f"the tables of work are others than those that are looked at: {there}")
        for schema, table in tables:
            if count := await database.fetchval(f'SELECT count(*) FROM "{schema}"."{table}"'):
                left.append(f"{count} rows are left in {schema}.{table}")
        for holder, lasts in await database.fetch(_HOLDS, LASTS.ToTimedelta()):
            if holder in tasks or lasts:
                left.append(f"a hold of {holder} is left")
    finally:
        await database.close()
    left += await _messages(installation.cluster.url)
    bucket = Bucket.of(settings)
    staged = await bucket.run(lambda *_: [str(each.object_name) for each in bucket.objects(STAGING)])
    left += [f"{key} is left in the store" for key in staged]
    # A real worker keeps a folder for the next task.
    waiting = f"work/work-{installation.pids()[REAL]}-"
    found = [str(each.relative_to(installation.folder)) for each in installation.folder.glob("work/*/*")]
    return [*left, *(f"the folder {each} is left" for each in found if not each.startswith(waiting))]


async def _messages(url: str) -> list[str]:
    connection = await nats.connect(url.split(","), connect_timeout=5)
    try:
        count = (await connection.jetstream().stream_info(TASKS)).state.messages
        return [f"{count} messages are left in {TASKS}"] if count else []
    except (nats.errors.Error, nats.js.errors.Error) as error:
        return [f"NATS does not tell what is in {TASKS}: {error}"]
    finally:
        await connection.close()
