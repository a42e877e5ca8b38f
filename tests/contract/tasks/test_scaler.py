"""KEDA's questions to a task service, over gRPC as KEDA asks them: the truth, quickly, to any number of pools."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from lathe.internal.keda import externalscaler_pb2 as pb
from lathe.type.v1 import task_pb2
from pydantic import SecretStr

from engines.spec.devices import load_catalog
from services.platform.settings import Settings
from services.process.composition import Platform
from services.process.server import ServiceParts
from services.tasks.api import demand as demands
from services.tasks.api.scaler import SERVICE, Scaler
from tests.contract.requests import request_of
from tests.contract.suite import Suite
from tests.eventually import eventually
from tests.in_process import serve_in_process
from tests.integration.tasks.kit import DEVICE, OPTIONS, TIMING, Site, open_site

OTHER = "cpu-arm64"
OPEN = "(PENDING OR RUNNING OR CANCELLING)"


class Keda:
    """What KEDA does, over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def active(self, **metadata: str) -> bool:
        call = self._method("IsActive", pb.IsActiveResponse)
        return bool((await call(reference(metadata))).result)

    def stream(self, **metadata: str) -> Any:
        path = f"/{SERVICE}/StreamIsActive"
        call: Any = self._channel.unary_stream(
            path, pb.ScaledObjectRef.SerializeToString, pb.IsActiveResponse.FromString
        )
        return call(reference(metadata))

    async def spec(self, **metadata: str) -> pb.MetricSpec:
        answer = await self._method("GetMetricSpec", pb.GetMetricSpecResponse)(reference(metadata))
        spec: pb.MetricSpec = answer.metricSpecs[0]
        assert spec.targetSize == spec.targetSizeFloat
        return spec

    async def value(self, **metadata: str) -> int:
        request = pb.GetMetricsRequest(scaledObjectRef=reference(metadata), metricName="any")
        (value,) = (await self._method("GetMetrics", pb.GetMetricsResponse)(request)).metricValues
        assert value.metricName.startswith("lathe-")
        assert value.metricName.endswith(f"-{metadata['device']}")
        assert value.metricValue == value.metricValueFloat
        return int(value.metricValue)

    def _method(self, name: str, answer: Any) -> Any:
        serialize: Any = pb.GetMetricsRequest if name == "GetMetrics" else pb.ScaledObjectRef
        return self._channel.unary_unary(f"/{SERVICE}/{name}", serialize.SerializeToString, answer.FromString)


def reference(metadata: Mapping[str, str]) -> pb.ScaledObjectRef:
    return pb.ScaledObjectRef(
        name="worker-cpu-x86-64",
        namespace="lathe",
        scalerMetadata={"scalerAddress": "converter.lathe:50053", **metadata},
    )


@asynccontextmanager
async def scaled(site: Site) -> AsyncIterator[str]:
    """Serve the demand for the site's tasks, where callers need tokens; gives the address."""
    scaler = Scaler("echo", load_catalog().devices)
    scaler.join(site.engine.demand)
    tokens = site.folder / "tokens.json"
    tokens.write_text('{"secret": "ann"}')

    async def build(_: Platform) -> ServiceParts:
        return scaler.parts

    settings = site.settings.model_copy(
        update={"auth_tokens_file": tokens, "service_token": SecretStr("between services")}
    )
    async with serve_in_process("echo", build, settings, ()) as address:
        yield address


@asynccontextmanager
async def asking(site: Site) -> AsyncIterator[Keda]:
    async with scaled(site) as address, grpc.aio.insecure_channel(address) as channel:
        yield Keda(channel)


@pytest.fixture
def settings(echo_database_url: str, fresh_nats_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=echo_database_url, nats_url=fresh_nats_url, data_dir=tmp_path)


@pytest.fixture
async def site(settings: Settings, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(settings, tmp_path) as site:
        yield site


@pytest.fixture
async def keda(site: Site) -> AsyncIterator[Keda]:
    async with asking(site) as keda:
        yield keda


async def until(value: int, keda: Keda, **metadata: str) -> None:
    await eventually(lambda: keda.value(**metadata), lambda told: told == value)


async def test_what_waits_and_what_runs_counts_and_what_follows_another_does_not(site: Site, keda: Keda) -> None:
    assert not await keda.active(device=DEVICE)
    tasks = [await site.create("hang", seed=number) for number in range(3)]
    follower = await site.create("hang", seed=0)
    await site.create("ok", output_model=f"models/{OTHER}")
    await until(3, keda, device=DEVICE)
    assert await keda.value(device=OTHER) == 1
    assert await keda.value(device="nvidia-t4", kinds="conversion") == 0
    assert [await keda.active(device=each) for each in (DEVICE, OTHER, "nvidia-t4")] == [True, True, False]
    await site.start_worker(concurrency=2)
    await site.reach(tasks[0], task_pb2.TASK_STATE_RUNNING)
    assert await keda.value(device=DEVICE) == 3
    site.jobs.release.set()
    await site.reach(follower, task_pb2.TASK_STATE_SUCCEEDED)
    await until(0, keda, device=DEVICE)


async def test_a_task_that_waits_for_a_second_attempt_counts(settings: Settings, tmp_path: Path) -> None:
    slow = replace(OPTIONS, timing=replace(TIMING, retry_delay=30.0))
    async with open_site(settings, tmp_path, slow) as site, asking(site) as keda:
        await site.start_worker()
        task = await site.create("flaky")
        await site.until(task, lambda found: len(found.attempts) == 1 and bool(found.attempts[0].outcome))
        await site.stop_workers()
        await asyncio.sleep(demands.KEPT_SECONDS)
        assert await keda.value(device=DEVICE) == 1


async def test_the_metric_has_the_name_of_service_and_device_and_the_target_of_the_trigger(keda: Keda) -> None:
    spec = await keda.spec(device=OTHER)
    assert (spec.metricName, spec.targetSize) == ("lathe-echo-cpu-arm64", 1)
    assert (await keda.spec(device=OTHER, tasksPerWorker="4", kinds=" conversion ")).targetSize == 4


WRONG: tuple[tuple[dict[str, str], str], ...] = (
    ({}, "device: it is required; write one of cpu-x86-64, "),
    ({"device": "cpu-x87"}, "device: the catalog has no device 'cpu-x87'; write one of cpu-x86-64, "),
    (
        {"device": DEVICE, "kinds": "conversion,baking"},
        "kinds: the echo has no tasks of the kind 'baking'; write conversion, or nothing for all",
    ),
    (
        {"device": DEVICE, "tasksPerWorker": "0"},
        "tasksPerWorker: '0' is no whole number from 1 to 10000; write the tasks that one worker is wanted for",
    ),
    (
        {"device": DEVICE, "taskPerWorker": "2"},
        "taskPerWorker: there is no such key; write device, kinds, tasksPerWorker",
    ),
)


async def test_wrong_metadata_are_named_with_what_to_write(keda: Keda) -> None:
    for metadata, told in WRONG:
        calls = (keda.active(**metadata), keda.spec(**metadata), keda.stream(**metadata).read())
        for call in (*calls, keda.value(**metadata)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            where, found, rest = (refused.value.details() or "").partition("scalerMetadata.")
            assert where in {"", "scaledObjectRef."}
            assert found
            assert rest.startswith(told)


async def test_hundreds_of_pools_hear_of_a_task_that_any_replica_sends(
    site: Site, keda: Keda, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demands, "KEPT_SECONDS", 3600.0)  # what is heard, is heard by being told
    reads = 0
    read = site.engine.demand._read

    async def counted() -> Mapping[str, int]:
        nonlocal reads
        reads += 1
        return await read()

    site.engine.demand._read = counted
    devices = list(load_catalog().devices)
    streams = [keda.stream(device=devices[number % len(devices)]) for number in range(20 * len(devices))]
    assert {(await stream.read()).result for stream in streams} == {False}
    assert reads <= 2
    async with open_site(settings, tmp_path) as replica, asyncio.timeout(60):
        task = await replica.create("ok")
        mine = streams[devices.index(DEVICE) :: len(devices)]
        assert {answer.result for answer in await asyncio.gather(*(stream.read() for stream in mine))} == {True}
        monkeypatch.setattr(demands, "KEPT_SECONDS", 0.1)
        await replica.cancel(task)
        await replica.create("ok", output_model=f"models/{OTHER}")
        assert {answer.result for answer in await asyncio.gather(*(stream.read() for stream in mine))} == {False}
    assert sum(await asyncio.gather(*(keda.value(device=OTHER) for _ in range(300)))) == 300
    silent = [asyncio.ensure_future(stream.read()) for stream in streams[devices.index("nvidia-t4") :: len(devices)]]
    await asyncio.sleep(0.2)
    assert not any(each.done() for each in silent)
    for stream in streams:
        stream.cancel()


async def test_a_stream_ends_well_with_its_server_and_another_server_goes_on(site: Site) -> None:
    async with AsyncExitStack() as stack:
        async with scaled(site) as address:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            stream = Keda(channel).stream(device=DEVICE)
            assert not (await stream.read()).result
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK
        with pytest.raises(grpc.aio.AioRpcError) as away:
            await Keda(channel).stream(device=DEVICE).read()
        assert away.value.code() == grpc.StatusCode.UNAVAILABLE
    await site.create("ok")
    async with asking(site) as keda:
        stream = keda.stream(device=DEVICE)
        async with asyncio.timeout(60):
            while not (await stream.read()).result:
                pass


class Progress(NamedTuple):
    """How many tasks somebody had begun to create, how many were created, and how many had ended, before a time."""

    begun: int
    created: int
    ended: int
    at: float


class Reading:
    """The last reading of the tables: when it began, and until when answers may be of it."""

    def __init__(self, demand: demands.Demand) -> None:
        self.began, self.until = 0.0, math.inf
        self._read, demand._read = demand._read, self

    async def __call__(self) -> Mapping[str, int]:
        self.began, self.until = time.monotonic(), math.inf
        found = await self._read()
        now = time.monotonic()
        self.until = now + max(demands.KEPT_SECONDS, demands._READINGS * (now - self.began)) + 0.5
        return found

    def earliest(self) -> float:
        """Return when what tells the truth from now on was read, or later."""
        return self.began if (now := time.monotonic()) < self.until else now


async def test_the_answers_are_the_truth_of_the_last_moment_while_much_is_done(site: Site, keda: Keda) -> None:
    begun = created = 0

    async def create() -> None:
        nonlocal begun, created
        for number in range(100):
            begun += 1
            await site.create("ok", seed=number)
            created += 1
            await asyncio.sleep(0.005)

    async def progress() -> Progress:
        query = "SELECT count(*) FROM tasks WHERE state = 3"
        return Progress(begun, created, await site.queue._database.fetchval(query), time.monotonic())

    reading = Reading(site.engine.demand)
    await site.start_worker(concurrency=4)
    creating = asyncio.create_task(create())
    seen = deque([await progress()])
    answers = set()
    while seen[-1].ended < 100:
        earliest = reading.earliest()
        told = await keda.value(device=DEVICE)
        answers.add(told)
        seen.append(await progress())
        while seen[1].at < earliest:
            seen.popleft()
        before, now = seen[0], seen[-1]
        assert before.created - now.ended <= told <= now.begun - before.ended
        await asyncio.sleep(0.02)
    await creating
    assert len(answers) > 1
    await until(0, keda, device=DEVICE)


async def test_every_task_service_answers_for_all_of_its_kinds(suite: Suite) -> None:
    kinds = {
        "converter": ["conversion"],
        "quantizer": ["quantization"],
        "optimizer": ["optimization", "profile"],
        "evaluator": ["evaluation"],
    }
    await asyncio.sleep(demands.KEPT_SECONDS)
    for service, names in kinds.items():
        keda = Keda(suite.channel(service))
        assert (await keda.spec(device=DEVICE)).metricName == f"lathe-{service}-{DEVICE}"
        values = [await keda.value(device=DEVICE, kinds=name) for name in names]
        for name, value in zip(names, values, strict=True):
            method, asked = (
                f"List{name.title()}Tasks",
                {"page_size": 1000, "filter": f"state = {OPEN} AND device = {DEVICE}"},
            )
            tasks = (await suite.call(method, request_of(method, asked))).get("tasks", [])
            # Some may follow others, and need no worker.
            assert bool(tasks) == bool(value)
            assert value <= len(tasks)
        assert await keda.value(device=DEVICE) == sum(values)
