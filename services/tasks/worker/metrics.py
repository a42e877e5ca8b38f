"""What Prometheus sees of the attempts that run in this process, for as long as they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from lathe.internal.v1.event_pb2 import TaskAssignment
from lathe.type.v1 import failure_pb2
from prometheus_client.core import REGISTRY, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_LABELS = ["kind", "device", "task"]


class Running(Protocol):
    """An attempt in this process."""

    @property
    def assignment(self) -> TaskAssignment:
        """What it does."""

    @property
    def stage(self) -> Any:
        """The TaskStage that it is in."""

    @property
    def progress(self) -> float:
        """The part of the work that is done, from 0 to 1."""

    @property
    def memory_bytes(self) -> int:
        """What its processes hold now."""


class _RunningCollector(Collector):
    """A series per running attempt, of which a worker has one for each of its slots; it ends with the attempt."""

    def __init__(self) -> None:
        self._running: set[Running] = set()

    def begin(self, attempt: Running) -> None:
        """Show an attempt."""
        self._running.add(attempt)

    def end(self, attempt: Running) -> None:
        """Show it no more."""
        self._running.discard(attempt)

    def describe(self) -> list[Metric]:
        """Return nothing; what there is is known when somebody scrapes."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield stage, progress and memory of every running attempt."""
        stage = GaugeMetricFamily("lathe_task_stage", "1 for the stage of the task.", labels=[*_LABELS, "stage"])
        progress = GaugeMetricFamily("lathe_task_progress", "Part of the task that is done, 0 to 1.", labels=_LABELS)
        memory = GaugeMetricFamily(
            "lathe_task_memory_bytes", "Resident memory of the processes of the task.", labels=_LABELS
        )
        limit = GaugeMetricFamily("lathe_task_memory_limit_bytes", "Memory that the task may take.", labels=_LABELS)
        for each in list(self._running):
            task = each.assignment
            names = [task.kind, task.device, task.task_id]
            word = failure_pb2.TaskStage.Name(each.stage).removeprefix("TASK_STAGE_").lower()
            stage.add_metric([*names, word], 1)
            progress.add_metric(names, each.progress)
            memory.add_metric(names, each.memory_bytes)
            limit.add_metric(names, task.memory_limit_bytes)
        yield from (stage, progress, memory, limit)


RUNNING = _RunningCollector()
REGISTRY.register(RUNNING)
