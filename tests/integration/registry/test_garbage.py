"""Collections of garbage over real tables and a real store: what is referred to stays, and nothing else."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from lathe.internal.v1.timings_pb2 import KeptTimings
from lathe.registry.v1.artifact_service_pb2 import UPLOAD_STATE_ABORTED, UPLOAD_STATE_OPEN
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.storage_service_pb2 import (
    CreateGarbageCollectionRequest,
    GarbageCollection,
    GetProjectUsageRequest,
    ListProjectUsagesRequest,
    TaskUsage,
)
from lathe.type.v1.digest_pb2 import Digest, File
from lathe.type.v1.operation_pb2 import OPERATION_STATE_SUCCEEDED

from engines.datasets.index import write_index
from engines.datasets.items import Item
from engines.failures import EngineFailure
from services.bus.connection import Bus
from services.bus.topology import TIMINGS, ensure_topology
from services.database.pool import Database
from services.operations.runner import Standing
from services.platform.background import end
from services.platform.errors import LatheError
from services.platform.settings import Settings
from services.process.composition import Need, Platform
from services.process.references import digests_in, oldest_work, others, references
from services.process.server import ServiceParts
from services.process.startup import prepare_schema
from services.registry.blobs import Blobs
from services.registry.datasets.index_files import IndexFiles
from services.registry.garbage.collections import Collections
from services.registry.garbage.collector import Collector
from services.registry.garbage.gathering import References
from services.registry.garbage.usage import Usages
from services.registry.kinds import DATASETS
from services.registry.projects import Projects
from services.resources.store import ResourceStore
from services.storage import S3ContentStore, hash_bytes
from services.storage.bucket import Bucket, Stat
from services.storage.claims import Claims
from services.storage.keys import CONTENT
from services.storage.removal import Removal, Stored
from services.tasks.api.counts import Counts
from services.tasks.state.standing import Standing as TasksStanding
from tests.in_process import serve_in_process, with_free_addresses

RUN = GarbageCollection(name="garbageCollections/1")
DRY = GarbageCollection(name="garbageCollections/2", dry_run=True)
_TASK = """
    INSERT INTO tasks (uid, name, display_name, owner, labels, create_time, update_time, revision, search_text, device,
        state, work_key, leads, dispatches, held, assignment, body, live, outcome)
    VALUES (gen_random_uuid(), 'x', '', 'ann', '{}', now(), now(), 1, '', 'cpu', 3, '', FALSE, 1, FALSE, $1, $2, $3, $4)
"""


class Site:
    """A registry and the tables of all services; the other services answer as long as they are asked to."""

    def __init__(self, settings: Settings, platform: Platform, folder: Path) -> None:
        self.settings = settings
        self.platform = platform
        self.database = platform.database
        self.store = S3ContentStore(settings)
        self.blobs = Blobs(self.database, self.store)
        self.bucket = Bucket.of(settings)
        self.references = References(platform, IndexFiles(self.store, folder, 1 << 30))

    def collector(self, grace: float = 0.0) -> Collector:
        """Return a collector; the store tells ages in whole seconds."""
        return Collector(self.database, self.references, Removal(self.bucket), timedelta(seconds=grace))

    async def collect(self, grace: float = 0.0, asked: GarbageCollection = RUN) -> GarbageCollection:
        return await self.collector(grace).do(asked, Standing())

    async def stored(self) -> set[str]:
        keys = await self.bucket.run(lambda *_: [str(each.object_name) for each in self.bucket.objects("cas/sha256/")])
        return {key.rpartition("/")[2] for key in keys}

    async def put(self, text: str) -> Digest:
        """Store bytes unlike any others."""
        return await self.store.put_bytes(f"{text} {uuid.uuid4()}".encode())


async def _nothing(_platform: Platform) -> ServiceParts:
    return ServiceParts(lambda _server: None, [])


async def _counting(platform: Platform) -> ServiceParts:
    return ServiceParts(lambda _server: None, [], counts=[Counts("quantization", TasksStanding(platform.database))])


@pytest.fixture(scope="module")
async def site(
    shared_settings: Settings, new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    places = {"database_url": new_database(), "s3_bucket": f"garbage-{uuid.uuid4().hex[:8]}"}
    settings = with_free_addresses(shared_settings.model_copy(update=places), *others("registry"))
    async with AsyncExitStack() as stack:
        for service in others("registry"):
            address = settings.address_of(service)
            await stack.enter_async_context(
                serve_in_process(
                    service,
                    _counting if service == "quantizer" else _nothing,
                    settings,
                    (Need.DATABASE,),
                    listen=address,
                )
            )
        await prepare_schema(settings, "registry")
        database = await Database.connect(settings.database_url, "registry")
        stack.push_async_callback(database.close)
        bus = await Bus.connect(settings.nats_url)
        stack.push_async_callback(bus.close)
        await ensure_topology(bus, [], [])
        platform = Platform(settings, database, bus)
        stack.push_async_callback(platform.close)
        yield Site(settings, platform, tmp_path_factory.mktemp("indexes"))


async def _older(by: float = 1.1) -> None:
    """Wait until what was stored has an age."""
    await asyncio.sleep(by)


def _content_older(stat: Callable[[Bucket, str], Stat | None]) -> Callable[[Bucket, str], Stat | None]:
    def older(bucket: Bucket, key: str) -> Stat | None:
        found = stat(bucket, key)
        return replace(found, age=found.age + 3600) if found and key.startswith(CONTENT) else found

    return older


async def test_what_is_referred_to_anywhere_stays_and_the_rest_goes(site: Site, tmp_path: Path) -> None:
    names = ("body", "live", "assignment", "outcome", "label", "open", "aborted", "timed", "alone", "packed", "loose")
    put = {name: await site.put(name) for name in names}
    text = {name: digest.SerializeToString() for name, digest in put.items()}
    items = [await site.put(f"image {number}") for number in range(3)]
    path = tmp_path / "index.parquet"
    write_index(path, [Item(sha256=each.sha256, size_bytes=each.size_bytes, path="") for each in items])
    index = await site.store.put_file(path)
    tasks = await Database.connect(site.settings.database_url, "quantizer")
    await tasks.execute(_TASK, text["assignment"], text["body"], text["live"], text["outcome"])
    await tasks.execute("UPDATE tasks SET labels = jsonb_build_object('of', $1::text)", put["label"].sha256)
    dataset = Dataset(name="datasets/d", uid=str(uuid.uuid4()), display_name="d", index=index)
    await ResourceStore(site.database, DATASETS).create(dataset, resource_id="d")
    await site.database.executemany(
        "INSERT INTO dataset_archives VALUES ($1, $2, 1)",
        [(index.sha256, put["packed"].sha256), ("0" * 64, put["loose"].sha256)],
    )
    await site.database.executemany(
        "INSERT INTO uploads (uid, display_name, size_bytes, state, owner, create_time, expire_time, sha256) "
        "VALUES (gen_random_uuid(), '', 1, $1, 'ann', now(), now(), $2)",
        [(UPLOAD_STATE_OPEN, put["open"].sha256), (UPLOAD_STATE_ABORTED, put["aborted"].sha256)],
    )
    timings = await site.platform.bus.js.key_value(TIMINGS)
    await timings.put("ann.cpu.x.1", KeptTimings(files=[put["timed"]]).SerializeToString())
    gone = {put[name].sha256 for name in ("aborted", "alone", "loose")}
    kept = {digest.sha256 for digest in (*put.values(), *items, index)} - gone
    await site.blobs.record(put.values())

    await _older()
    before = await site.stored()
    first = await site.collect()
    assert await site.stored() == before
    assert (first.waiting.files, first.removed.files) == (3, 0)
    dry = await site.collect(asked=DRY)
    assert (dry.waiting.files, dry.removed.files) == (0, 3)
    assert await site.stored() == before
    second = await site.collect()
    assert await site.stored() == kept
    assert (second.referred.files, second.waiting.files, second.removed.files) == (len(kept), 0, 3)
    assert second.removed.bytes == sum(put[name].size_bytes for name in ("aborted", "alone", "loose"))
    with pytest.raises(LatheError, match="There is no artifact"):
        await site.blobs.get(put["alone"].sha256)
    assert await site.database.fetchval("SELECT count(*) FROM dataset_archives") == 1

    # What belongs to a project counts for it, and the items of its datasets, too.
    usages = Usages(site.platform, Projects(site.platform))
    (usage,) = (await usages.page(ListProjectUsagesRequest())).project_usages
    assert usage.project == "projects/default"
    assert (usage.open_uploads, list(usage.tasks)) == (1, [TaskUsage(kind="quantization", succeeded=1)])
    # These have no tasks to count, as services of an earlier release.
    assert usage.unreachable == ["converter", "optimizer", "evaluator"]
    one = await usages.get(GetProjectUsageRequest(project="projects/default"))
    assert (one.stored, one.tasks, one.quota_bytes) == (usage.stored, usage.tasks, 1)
    with pytest.raises(LatheError, match="no project named 'projects/x'"):
        await usages.get(GetProjectUsageRequest(project="projects/x"))
    own = [put[name] for name in ("body", "live", "assignment", "outcome", "label", "open")]
    assert usage.stored.files == len(own) + len(items) + 1
    assert usage.stored.bytes == sum(each.size_bytes for each in (*own, *items, index))

    # What referred to them goes, in each of the schemas: the rest follows.
    await tasks.execute("DELETE FROM tasks")
    await site.database.execute("DELETE FROM datasets")
    await site.database.execute("DELETE FROM changes")  # no publisher is here to take it
    await site.database.execute("DELETE FROM uploads")
    await timings.delete("ann.cpu.x.1")
    await site.collect()
    assert (await site.collect()).removed.files == len(kept)
    assert await site.stored() == set()
    await tasks.close()


async def test_what_somebody_asks_for_meanwhile_stays_for_a_grace(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found, sent, known, left = [await site.put(name) for name in ("found", "sent", "known", "left")]
    content = f"sent {uuid.uuid4()}".encode()
    sent = await site.store.put_bytes(content)
    await site.blobs.record([found, sent, known, left])
    await _older(2.1)
    await site.collect(grace=1)
    await _older()
    # Another process, which claims what is older than a moment: it has found them before they were condemned.
    other = S3ContentStore(site.settings)
    other._claims = Claims(site.bucket, timedelta())
    blobs = Blobs(site.database, other)
    assert await other.exists(found)
    assert await other.put_bytes(content) == sent
    assert not await blobs.missing([File(path="x", digest=known)])
    # An hour later, but for the claims: a grace of seconds would pass before a busy machine has looked at them.
    await site.database.execute("UPDATE condemned SET since = since - interval '1 hour'")
    with monkeypatch.context() as later:
        later.setattr(Bucket, "stat", _content_older(Bucket.stat))
        second = await site.collect(grace=1800)
    assert {found.sha256, sent.sha256, known.sha256} <= await site.stored()
    assert left.sha256 not in await site.stored()
    assert second.waiting.files >= 3
    # Nobody has written down that it refers to them.
    await _older(2.1)
    await site.collect(grace=1)
    assert not {found.sha256, sent.sha256, known.sha256} & await site.stored()
    claims = await site.bucket.run(lambda *_: [each.object_name for each in site.bucket.objects("cas/claims/")])
    assert claims == []


async def test_what_is_referred_to_again_is_condemned_anew(site: Site) -> None:
    digest = await site.put("again")
    await _older()
    await site.collect()
    await site.database.execute("INSERT INTO retired_names VALUES ($1)", f"models/{digest.sha256}")
    assert (await site.collect()).removed.files == 0
    await site.database.execute("DELETE FROM retired_names")
    assert (await site.collect()).removed.files == 0
    assert digest.sha256 in await site.stored()
    assert (await site.collect()).removed.files == 1


async def test_work_that_goes_on_keeps_what_it_may_have_found(site: Site) -> None:
    digest = await site.put("work")
    await _older()
    await site.database.execute(
        "INSERT INTO uploads (uid, display_name, size_bytes, state, owner, create_time, expire_time) "
        "VALUES (gen_random_uuid(), '', 1, 1, 'ann', now(), now())"
    )
    await site.database.execute(
        "INSERT INTO upload_checks (upload, lease_time, create_time) "
        "SELECT uid, now(), now() - interval '1 hour' FROM uploads"
    )
    assert await oldest_work(site.database) is not None
    await site.collect()
    assert (await site.collect()).removed.files == 0
    await site.database.execute("DELETE FROM uploads")
    assert (await site.collect()).removed.files == 1
    assert digest.sha256 not in await site.stored()


async def test_nothing_goes_if_a_service_does_not_answer(site: Site) -> None:
    digest = await site.put("unanswered")
    await _older()
    await site.collect()
    away = site.settings.model_copy(update={"evaluator_address": "127.0.0.1:1"})
    platform = Platform(away, site.database, site.platform.bus)
    references = References(platform, site.references._indexes)
    collector = Collector(site.database, references, Removal(site.bucket), timedelta())
    with pytest.raises(EngineFailure, match="The evaluator does not say what it refers to") as failure:
        await collector.do(RUN, Standing())
    assert failure.value.retryable
    assert digest.sha256 in await site.stored()
    await platform.close()
    await site.collect()


async def test_nothing_goes_from_a_bucket_of_several_installations(site: Site) -> None:
    digest = await site.put("shared")
    await _older()
    await site.collect()
    other = f"cas/owners/{uuid.uuid4()}"
    await site.bucket.run(lambda *_: site.bucket.put(other, b"", hash_bytes(b"")))
    with pytest.raises(EngineFailure, match="used by 2 installations") as failure:
        await site.collect()
    assert other in failure.value.suggested_fix
    assert digest.sha256 in await site.stored()
    await site.bucket.run(lambda *_: site.bucket.remove_once(other))
    await site.collect()
    assert digest.sha256 not in await site.stored()


async def test_nothing_goes_once_another_process_has_taken_over(site: Site) -> None:
    digest = await site.put("late")
    await _older()
    await site.collect()
    collector = site.collector()
    gather = collector._references.gather

    async def slow() -> AsyncIterator[tuple[str, set[bytes]]]:
        async for part in gather():
            yield part
        # This process slept; another one has the lease, and has emptied the marks.
        await site.database.execute("UPDATE leases SET holder = gen_random_uuid() WHERE name = 'garbage'")
        await site.database.execute("TRUNCATE marks")

    collector._references.gather = slow  # type: ignore[method-assign]
    with pytest.raises(LatheError) as lost:
        await collector.do(RUN, Standing())
    collector._references.gather = gather  # type: ignore[method-assign]
    assert lost.value.reason == "LEASE_LOST"
    assert digest.sha256 in await site.stored()
    await site.database.execute("DELETE FROM leases")
    await site.collect()


async def test_collections_are_begun_by_themselves_and_go_on_in_another_process(site: Site) -> None:
    await site.put("by itself")
    await _older()
    settings = site.settings.model_copy(update={"gc_interval_hours": 1.0})
    collections = Collections(site.database, site.collector(), settings)
    await collections.keep_up()
    assert await site.database.fetchval("SELECT count(*) FROM garbage_collections") == 0
    await site.database.execute("UPDATE installation SET create_time = now() - interval '2 hours'")
    await asyncio.gather(*(collections.keep_up() for _ in range(3)))
    await collections.keep_up()
    (row,) = await site.database.fetch("SELECT name, owner FROM garbage_collections")
    assert row["owner"] == "lathe"

    # The first process dies in the middle, and another one begins again.
    stuck = Collections(site.database, site.collector(), settings)
    removal = stuck.operations.runner._job._work._removal  # type: ignore[attr-defined]
    began, go_on = threading.Event(), threading.Event()

    def half() -> Iterator[list[Stored]]:
        began.set()
        go_on.wait(30)
        yield from ()

    removal.pages = half
    dying = asyncio.create_task(stuck.operations.runner.run())
    assert await asyncio.to_thread(began.wait, 30)
    await end([dying])
    go_on.set()
    living = asyncio.create_task(collections.operations.runner.run())
    async with asyncio.timeout(60):
        async for each in collections.operations.watch(row["name"]):
            last = each
    await end([living])
    assert last.state == OPERATION_STATE_SUCCEEDED, last
    assert (last.referred.files, last.waiting.files) == (0, 1)
    # A repeat returns the first; old ones are forgotten.
    request = CreateGarbageCollectionRequest(garbage_collection=DRY, request_id=str(uuid.uuid4()))
    assert (await collections.create(request)).name == (await collections.create(request)).name
    await site.database.execute("UPDATE garbage_collections SET create_time = now() - interval '31 days'")
    await Collections(site.database, site.collector(), settings.model_copy(update={"gc_interval_hours": 0})).keep_up()
    assert (
        await site.database.fetchval(
            "SELECT count(*) FROM garbage_collections WHERE state = $1", OPERATION_STATE_SUCCEEDED
        )
        == 0
    )


async def test_digests_are_found_wherever_they_stand(site: Site) -> None:
    one, two = "ab" * 32, "0123456789abcdef" * 4
    assert {each.hex() for each in digests_in(f'{{"sha256": "{one}"}}, s3://lathe/cas/{two[:2]}/{two}.bin')} == {
        one,
        two,
    }
    # The field that follows in a message may look like a digit.
    assert bytes.fromhex(one) in set(digests_in(Digest(sha256=one).SerializeToString() + b"0f"))
    assert bytes.fromhex(two) in set(digests_in("a" * 1000 + one + two))
    assert not list(digests_in("ab" * 31 + "xy" + "AB" * 32))
    parts = [part async for _, part in references(site.database, ("installation",))]
    assert all(len(digest) == 32 for part in parts for digest in part)
