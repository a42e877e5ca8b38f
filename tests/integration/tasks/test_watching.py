"""What operators see of tasks: metrics of a scrape, and spans from the call to the steps of the engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lathe.type.v1 import failure_pb2, task_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.platform import telemetry
from services.platform.telemetry import TASK_ATTRIBUTE
from tests.eventually import eventually
from tests.integration.tasks.kit import DEVICE, Site

LABELS = {"kind": "conversion", "device": DEVICE}


async def scrape() -> dict[str, list[Any]]:
    """Return the samples of a scrape by name, read as Prometheus reads them, on another thread."""
    text = (await asyncio.to_thread(generate_latest, REGISTRY)).decode()
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value(samples: dict[str, list[Any]], name: str, **labels: str) -> float | None:
    found = [each.value for each in samples.get(name, []) if each.labels == {**LABELS, **labels}]
    assert len(found) < 2, f"{name} is told twice"
    return found[0] if found else None


async def test_a_scrape_tells_the_queues_and_what_runs(site: Site) -> None:
    before = await scrape()
    await site.start_worker(concurrency=1)
    running = await site.create("hang")
    await site.reach(running, task_pb2.TASK_STATE_RUNNING)
    await site.began(1)
    waiting = [await site.create("ok", seed=seed) for seed in range(3)]
    follower = await site.create("ok", seed=1)
    now = await scrape()
    assert value(now, "lathe_tasks_running") == 1
    assert value(now, "lathe_tasks_waiting") == 3
    assert value(now, "lathe_owner_tasks_waiting", owner=running.owner) == 3
    assert 0 < (value(now, "lathe_tasks_oldest_wait_seconds") or 0) < 60
    assert value(now, "lathe_workers") == value(now, "lathe_worker_slots") == 1
    assert value(now, "lathe_task_stage", task=running.uid, stage="executing") == 1
    assert value(now, "lathe_task_memory_limit_bytes", task=running.uid) == 1 << 30
    site.jobs.release.set()
    for task in (running, *waiting, follower):
        await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    cached = await site.create("ok", seed=1)
    assert cached.origin.cache_hit

    def ended(samples: dict[str, list[Any]]) -> float:
        return value(samples, "lathe_tasks_ended_total", state="succeeded") or 0

    # Counted a moment after it is written.
    after = await eventually(scrape, lambda samples: ended(samples) - ended(before) == 5)
    assert value(after, "lathe_tasks_waiting") == value(after, "lathe_tasks_running") == 0
    assert value(after, "lathe_task_stage", task=running.uid, stage="executing") is None

    def grown(name: str, **labels: str) -> float:
        return (value(after, name, **labels) or 0) - (value(before, name, **labels) or 0)

    assert grown("lathe_tasks_created_total", how="queued") == 4
    assert grown("lathe_tasks_created_total", how="shared") == grown("lathe_tasks_created_total", how="cached") == 1
    assert grown("lathe_task_stage_seconds_count", stage="executing") == 4
    assert grown("lathe_task_wait_seconds_count") == 4
    published = {each.labels["operation"]: each.value for each in after["lathe_bus_seconds_count"]}
    assert published["publish"] > 0


async def test_without_tables_a_scrape_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> None:
        raise ConnectionRefusedError("no database")

    await site.start_worker()
    monkeypatch.setattr(site.engine.gauges._standing, "loads", away)
    found = await scrape()
    assert [each.value for each in found["lathe_queue_readable"] if each.labels["kind"] == "conversion"] == [0]
    assert "lathe_tasks_waiting" not in found


async def test_an_attempt_says_how_long_its_stages_took(site: Site) -> None:
    await site.start_worker()
    done = await site.reach(await site.create("files"), task_pb2.TASK_STATE_SUCCEEDED)
    (attempt,) = done.attempts
    stages = [failure_pb2.TaskStage.Name(each.stage) for each in attempt.stage_times]
    assert stages == ["TASK_STAGE_FETCHING_INPUTS", "TASK_STAGE_EXECUTING", "TASK_STAGE_UPLOADING_OUTPUTS"]
    failed = await site.reach(await site.create("fail"), task_pb2.TASK_STATE_FAILED)
    assert [each.stage for each in failed.attempts[0].stage_times] == [1, 2]


async def test_spans_lead_from_the_call_to_the_steps_of_the_engine(site: Site, exporter: InMemorySpanExporter) -> None:
    await site.start_worker()
    exporter.clear()
    with telemetry.continue_trace("Create", ""):
        created = await site.create("files", seed=7)
    await site.reach(created, task_pb2.TASK_STATE_SUCCEEDED)

    def finished() -> dict[str, ReadableSpan]:
        return {span.name: span for span in exporter.get_finished_spans()}

    # They end after the event that ends the task, and after its row is written.
    await eventually(lambda: {"conversion.run", "conversion.complete"} <= finished().keys())
    spans = finished()
    assert {(span.attributes or {}).get(TASK_ATTRIBUTE) for span in spans.values()} == {created.uid}
    assert len({span.context.trace_id for span in spans.values()}) == 1

    def above(name: str) -> str:
        parent = spans[name].parent
        return (
            next((each for each, span in spans.items() if span.context.span_id == parent.span_id), "") if parent else ""
        )

    assert above("half") == "executing"
    assert above("executing") == above("fetching_inputs") == above("uploading_outputs") == "conversion.run"
    assert above("conversion.run") == "Create"
    assert above("conversion.complete") == "uploading_outputs" or above("conversion.complete") == "conversion.run"
