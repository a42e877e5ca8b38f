"""A tiny kind of task on the converter's contract, and a whole site to run it on: real PostgreSQL and NATS.

The template's name says how the job behaves (`templates/ok`, `templates/hang`…); `seed` makes work different; parity
waivers name folders and the sha256 of the file lists that are fetched into them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.internal.v1.conversion_pb2 import ConversionOutcome, ConversionWork
from lathe.type.v1.digest_pb2 import Digest, File

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.timings import TIMINGS, kept_name, read_timings, write_timings
from engines.sandbox import Progress, Sandbox
from services.bus.connection import Bus
from services.bus.topology import TASKS, Timing, ensure_topology, on_device
from services.database.pool import Database, migrate
from services.platform.background import end, supervise
from services.platform.errors import invalid_argument, not_found, unavailable
from services.platform.settings import Settings
from services.tasks.api.options import TaskOptions
from services.tasks.api.relay import Outbox
from services.tasks.api.service import TaskEngine, build_engine
from services.tasks.kind import PreparedTask
from services.tasks.state.queue import TaskQueue
from services.tasks.worker.blobs import Blobs
from services.tasks.worker.presence import Pool
from services.tasks.worker.runner import Slot
from services.tasks.worker.timings import MOST_BYTES
from services.tasks.worker.worker import Worker
from tests.eventually import eventually
from tests.in_process import InProcessRunner
from tests.integration.tasks import migrations

DEVICE = "cpu-x86-64"
DEFAULT = "projects/default"
KEEPER = "keeper"
"""The stand-in for a runtime that keeps timings."""
# A busy machine may stop a process for seconds, and no message, worker or event must count as lost for that.
TIMING = Timing(ack_wait=8.0, heartbeat=0.3, worker_ttl=8.0, max_deliver=3, retry_delay=0.05)
OPTIONS = TaskOptions(
    timing=TIMING,
    relay_poll=0.2,
    sweep_every=0.2,
    republish_after=20.0,
    lost_after=60.0,
    stalled_after=60.0,
    verifier_lost_after=60.0,
    cancel_after=60.0,
    watch_poll=0.5,
)
PROMPT = replace(OPTIONS, timing=replace(TIMING, ack_wait=4.0, worker_ttl=4.0), lost_after=0.3)
"""For tests in which workers die."""
RESENDING = replace(OPTIONS, republish_after=3.0)
"""For tests in which messages to workers are lost."""


class EchoKind:
    """The API side. `complete` answers with `answers` first, in their order; results in `gone` do not exist any more.

    `hint` goes to the workers beside the work.
    """

    name = "conversion"
    service = "lathe.converter.v1.ConversionService"
    collection = "conversionTasks"
    task_type = pb.ConversionTask
    outcome_type = ConversionOutcome

    def __init__(self) -> None:
        self.answers: list[Exception] = []
        self.away = False
        self.ballast = ""
        self.completed: list[str] = []
        self.gone: set[str] = set()
        self.holding: set[str] = set()
        self.renewed: list[str] = []
        self.hint = ""
        self.prepared = 0
        self.owned = False

    def uses(self, spec: Message) -> Sequence[str]:
        assert isinstance(spec, pb.ConversionSpec)
        return [spec.model_version, spec.template]

    def check(self, spec: Message) -> None:
        pass

    def figures(self, result: Message) -> Mapping[str, float]:
        return {}

    async def prepare(self, spec: Message, project: str) -> PreparedTask:
        assert isinstance(spec, pb.ConversionSpec)
        self.prepared += 1
        await asyncio.sleep(0)
        if self.away:
            raise unavailable("registry", "The registry does not answer.")
        if spec.template == "templates/unknown":
            raise not_found("template", spec.template)
        if spec.template == "templates/invalid":
            raise invalid_argument("spec.template", "it is not one of ours")
        work = ConversionWork(
            samples_path=spec.template.partition("/")[2] + self.ballast,
            seed=spec.seed,
            parity_waivers=spec.parity_waivers,
        )
        device = spec.output_model.removeprefix("models/") or DEVICE
        if not self.hint:
            return PreparedTask(work, device, project or DEFAULT, "an echo", 600, 1 << 30, owned=self.owned)
        hinted = ConversionWork()
        hinted.CopyFrom(work)
        hinted.source_digest = self.hint
        return PreparedTask(hinted, device, project or DEFAULT, "an echo", 600, 1 << 30, bare=work)

    async def hold(self, task_name: str, spec: Message) -> bool:
        assert isinstance(spec, pb.ConversionSpec)
        if spec.model_version.endswith("/held"):
            self.holding.add(task_name)
            return True
        return False

    async def renew(self, task_names: Sequence[str]) -> None:
        self.renewed.extend(task_names)

    async def release(self, task_name: str, spec: Message) -> None:
        self.holding.discard(task_name)

    async def complete(self, task: Message, outcome: Message, work: AnyMessage) -> Message:
        assert isinstance(task, pb.ConversionTask)
        assert isinstance(outcome, ConversionOutcome)
        if self.answers:
            raise self.answers.pop(0)
        if outcome.hardware == "incompletable":
            raise invalid_argument("outcome", "It cannot be registered.")
        if outcome.hardware == "sluggish":
            await asyncio.sleep(0.3)
        self.completed.append(task.name)
        return pb.ConversionResult(model_version=f"models/echo/versions/{task.uid}", hardware=outcome.hardware)

    def unverified(self, outcome: Message) -> bool:
        assert isinstance(outcome, ConversionOutcome)
        return outcome.hardware == "elsewhere"

    async def share(
        self, task: Message, original: Message, outcome: Message, work: AnyMessage, standing: Collection[str]
    ) -> Message | None:
        assert isinstance(original, pb.ConversionTask)
        if not original.result.model_version:
            return await self.complete(task, outcome, work)
        return None if original.result.model_version in self.gone else original.result


class EchoWork:
    """The worker side."""

    name = "conversion"
    runs_forms = False
    entry = "tests.integration.tasks.kit:unused"
    preload: tuple[str, ...] = ()
    work_type = ConversionWork
    outcome_type = ConversionOutcome
    outputs_dir = "package"

    def __init__(self, version: str = "1", formats: Sequence[str] = ()) -> None:
        self._version = version
        self.formats = formats

    def source_format(self, work: Message) -> str:
        assert isinstance(work, ConversionWork)
        return "MMDETECTION" if work.samples_path == "detector" else ""

    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        assert isinstance(work, ConversionWork)
        return [(each.path, each.digest) for each in work.inputs]

    def file_lists(self, work: Message) -> Sequence[tuple[str, Digest]]:
        assert isinstance(work, ConversionWork)
        return [(folder, Digest(sha256=sha256)) for folder, sha256 in work.parity_waivers.items()]

    def request(self, work: Message) -> dict[str, Any]:
        assert isinstance(work, ConversionWork)
        return {"behaviour": work.samples_path, "seed": work.seed, "hint": work.source_digest}

    def built(self, outcome: Message) -> Sequence[File]:
        assert isinstance(outcome, ConversionOutcome)
        return outcome.files

    async def outcome(self, result: dict[str, Any], files: Sequence[File]) -> Message:
        return ConversionOutcome(files=files, hardware=result["hardware"])

    def environment(self) -> dict[str, Any]:
        return {"echo": self._version}


class Jobs:
    """What the jobs of a worker do, and a count of how often each ran."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.hints: list[str] = []
        self.release = asyncio.Event()
        self.going_on = asyncio.Event()
        self.going_on.set()

    async def run(
        self,
        request: dict[str, Any],
        slot: Slot,
        on_progress: Callable[[Progress], None],
        on_log: Callable[[str], None],
    ) -> dict[str, Any]:
        behaviour = request["behaviour"]
        self.runs.append(behaviour)
        self.hints.append(request["hint"])
        tries = self.runs.count(behaviour)
        if behaviour == "hang":
            await self.release.wait()
        if behaviour in ("fail", "flaky", "doomed") and (behaviour != "flaky" or tries < 3):
            retryable = behaviour != "fail"
            raise EngineFailure(
                FailureReason.UNSUPPORTED_OPERATOR, "No such operator.", operator="Foo", retryable=retryable
            )
        if behaviour == "detector":
            raise EngineFailure(FailureReason.TOOLCHAIN_UNAVAILABLE, "mmdet is not here.", suggested_fix="Install it.")
        if behaviour == "verbose":
            return {"hardware": "x" * 10_000_000}
        if behaviour == "fault":
            raise KeyError("secret detail")
        if behaviour == "lines":
            for number in range(5):
                on_log(f"line {number + 1}")
            await asyncio.sleep(0.4)
            await self.going_on.wait()
            on_log("line 6")
        if behaviour == "files":
            (slot.workdir / "package" / "net").mkdir(parents=True)
            (slot.workdir / "package" / "net" / "model.onnx").write_bytes(b"onnx")
            on_progress(Progress(0.5, "half"))
        if behaviour == "read":
            paths = (path for path in slot.workdir.rglob("*") if path.is_file())
            return {
                "hardware": " ".join(sorted(f"{path.relative_to(slot.workdir)}={path.read_text()}" for path in paths))
            }
        if behaviour.startswith("time"):
            return await self._timed(behaviour, slot)
        if behaviour.startswith("elsewhere"):
            return await self._elsewhere(request, slot)
        if behaviour == "link":
            (slot.workdir / "package").mkdir()
            (slot.workdir / "package" / "passwd").symlink_to("/etc/passwd")
        return {"hardware": behaviour}

    async def _timed(self, behaviour: str, slot: Slot) -> dict[str, Any]:
        """Be a runtime that keeps timings: a line for each task; say which lines were there before."""
        folder = slot.workdir / TIMINGS
        before, line = b"".join(read_timings(folder, KEEPER)), f"{len(self.runs)};"
        if behaviour == "time-and-wait":
            await self.release.wait()
        if behaviour == "time-a-link":
            folder.mkdir(exist_ok=True)
            (folder / kept_name(KEEPER)).symlink_to("/etc/passwd")
        elif behaviour == "time-too-much":
            write_timings(folder, KEEPER, bytes(MOST_BYTES + 1))
        else:
            write_timings(folder, KEEPER, before + line.encode())
        return {"hardware": f"began with {before.decode()}"}

    async def _elsewhere(self, request: dict[str, Any], slot: Slot) -> dict[str, Any]:
        """Write a file, whatever machine this is; or say what was written, once that is handed on."""
        built = slot.workdir / request.get("built", "nothing") / "net"
        await (self.going_on if built.is_file() else self.release).wait()
        if built.is_file():
            if request["behaviour"] == "elsewhere-wrong":
                raise EngineFailure(FailureReason.PARITY_FAILED, "It computes something else.")
            return {"hardware": f"the device, from {built.read_text()}"}
        (slot.workdir / "package").mkdir()
        (slot.workdir / "package" / "net").write_text("what was built")
        return {"hardware": "elsewhere"}


class FolderStore:
    """Content-addressed blobs in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    async def put_bytes(self, data: bytes) -> Digest:
        digest = Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        (self._root / digest.sha256).write_bytes(data)
        return digest

    async def put_file(self, path: Path) -> Digest:
        return await self.put_bytes(path.read_bytes())

    async def read(self, digest: Digest) -> bytes:
        return (self._root / digest.sha256).read_bytes()

    async def fetch(self, digest: Digest, path: Path) -> None:
        path.write_bytes(await self.read(digest))


class Site:
    """One API process's worth of engine, and workers as a test wants them."""

    def __init__(self, settings: Settings, folder: Path, options: TaskOptions) -> None:
        self.settings = settings
        self.folder = folder
        self.options = options
        self.kind = EchoKind()
        self.jobs = Jobs()
        self.blobs = FolderStore(folder / "blobs")
        self.workers_blobs: Blobs = self.blobs
        self.engine: TaskEngine
        self.database: Database
        self.outbox: Outbox
        self.queue: TaskQueue
        self.bus: Bus
        self.ended: set[str] = set()
        self._workers: list[tuple[Worker, asyncio.Task[None]]] = []

    async def create(self, behaviour: str = "ok", **fields: Any) -> pb.ConversionTask:
        spec = pb.ConversionSpec(
            model_version=fields.pop("model_version", "models/m/versions/1"),
            template=f"templates/{behaviour}",
            seed=fields.pop("seed", 0),
            output_model=fields.pop("output_model", ""),
            parity_waivers=fields.pop("file_lists", {}),
        )
        task = pb.ConversionTask(
            spec=spec,
            display_name=fields.pop("display_name", ""),
            labels=fields.pop("labels", {}),
            priority=fields.pop("priority", 0),
            project=fields.pop("project", ""),
        )
        created = await self.engine.handlers.create(pb.CreateConversionTaskRequest(task=task, **fields))
        assert isinstance(created, pb.ConversionTask)
        return created

    async def get(self, task: pb.ConversionTask) -> pb.ConversionTask:
        found = await self.engine.handlers.get(task.name)
        assert isinstance(found, pb.ConversionTask)
        return found

    async def cancel(self, task: pb.ConversionTask) -> pb.ConversionTask:
        found = await self.engine.handlers.cancel(task.name)
        assert isinstance(found, pb.ConversionTask)
        return found

    async def reach(self, task: pb.ConversionTask, *states: int) -> pb.ConversionTask:
        """Wait until the task is in one of the states. One that is RUNNING is claimed; its job may begin later."""
        return await self.until(task, lambda found: found.status.state in states)

    async def until(
        self, task: pb.ConversionTask, condition: Callable[[pb.ConversionTask], object]
    ) -> pb.ConversionTask:
        return await eventually(lambda: self.get(task), condition)

    async def began(self, count: int) -> None:
        """Wait until so many jobs have begun."""
        await eventually(lambda: len(self.jobs.runs) >= count)

    async def on_the_way(self, count: int) -> None:
        """Wait until so many messages are on the way to workers or in their hands; a task is written first."""

        async def messages() -> int:
            return (await self.bus.js.stream_info(TASKS)).state.messages

        await eventually(messages, lambda found: found == count)

    async def start_worker(
        self,
        *,
        concurrency: int = 8,
        version: str = "1",
        name: str = "",
        idle: float = 0,
        here: bool = False,
        timings: Mapping[str, str] | None = None,
        sandbox: Sandbox | None = None,
        drain: float = 0.1,
    ) -> Worker:
        """Start a worker; returns when the site knows of it, or when it has ended already, being `idle`."""
        runner = InProcessRunner(self.jobs.run, self.folder / "work")
        pool = Pool([EchoWork(version)], DEVICE, concurrency, on_device=here, timings=timings or {}, sandbox=sandbox)
        bus = await Bus.connect(self.settings.nats_url, "worker")
        timing = self.options.timing
        worker = Worker(
            pool, bus, self.workers_blobs, runner, timing=timing, drain_seconds=drain, name=name, idle_exit_seconds=idle
        )

        async def run() -> None:
            try:
                await worker.run()
            finally:
                await bus.close()
                self.ended.add(worker.name)

        self._workers.append((worker, asyncio.create_task(run())))
        await eventually(lambda: worker.name in self.ended or worker.name in self.engine.workers.alive())
        return worker

    async def stop_workers(self) -> None:
        workers, self._workers = self._workers, []
        for worker, _ in workers:
            worker.stop()
        await asyncio.gather(*(task for _, task in workers))

    async def __aenter__(self) -> Site:
        await migrate(self.settings.database_url, "echo", migrations)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_workers()


@asynccontextmanager
async def open_site(
    settings: Settings, folder: Path, options: TaskOptions = OPTIONS, *, background: bool = True
) -> AsyncIterator[Site]:
    """A site whose engine runs; without `background`, the test runs what it wants to run."""
    async with Site(settings, folder, options) as site:
        database = await Database.connect(settings.database_url, "echo", max_size=4)
        site.bus = await Bus.connect(settings.nats_url, "site")
        await ensure_topology(site.bus, [site.kind.name], [DEVICE, on_device(DEVICE)], options.timing)
        site.database = database
        site.outbox, site.queue = Outbox(database), TaskQueue(database)
        site.engine = build_engine(site.kind, database, site.bus, site.blobs, options)
        running = [asyncio.create_task(supervise(run)) for run in site.engine.background] if background else []
        try:
            yield site
        finally:
            await site.stop_workers()
            await end(running)
            await site.bus.close()
            await database.close()
