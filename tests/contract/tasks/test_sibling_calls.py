"""How often a task service asks its siblings: what one call can tell is asked once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lathe.converter.v1 import conversion_service_pb2 as conversions
from lathe.registry.v1.architecture_service_pb2 import CreateArchitectureRequest
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_PACKAGE,
    MODEL_FORMAT_PTH,
    DeleteModelVersionRequest,
    DescribeModelVersionRequest,
    GraphDescription,
    ModelVersion,
)
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED

from engines.sandbox import Progress
from services.converter.work import ConversionWorkKind
from services.platform.interceptors.observation import CALLS
from services.platform.words import from_values
from services.registry.descriptions import Describer
from services.tasks.worker.runner import Slot
from tests.contract.evaluator.test_tasks import create as create_evaluation
from tests.contract.optimizer.desk import create as create_optimization
from tests.contract.quantizer.test_tasks import create as create_quantization
from tests.contract.registry.conftest import new_architecture
from tests.contract.registry.samples import state_dict
from tests.contract.workplace import DEVICE, Workplace, graph, package_manifest

SIBLINGS = ("lathe.registry.", "lathe.template.", "lathe.internal.")
ONNX_TEMPLATE = "templates/onnx-cpu-x86-64-onnxruntime-fp32"
PTH_TEMPLATE = "templates/pth-cpu-x86-64-onnxruntime-fp32"
INPUTS = [{"name": "x", "shape": [1, 3]}]
GRAPHS = [{"component": "main", "path": "main/model.onnx", "parameter_count": "7"}]


def _calls() -> Counter[str]:
    counted: Counter[str] = Counter()
    for metric in CALLS.collect():
        for sample in metric.samples:
            method = sample.labels.get("method", "")
            # A hold ends some time after its task, and quotas are asked for now and then.
            later = method.endswith("/ReadQuotas") or "/Unhold" in method
            if sample.name.endswith("_total") and method.startswith(SIBLINGS) and not later:
                counted[method.rpartition("/")[2]] += int(sample.value)
    return counted


@contextmanager
def recorded(asked: Counter[str]) -> Iterator[None]:
    """Put into `asked` which methods of registry and template service are called in the block, and how often."""
    before = _calls()
    yield
    asked += _calls() - before


class Conversion:
    """What a worker does: it writes a package of one graph, which it describes."""

    async def run(
        self,
        _request: dict[str, Any],
        slot: Slot,
        _on_progress: Callable[[Progress], None],
        _on_log: Callable[[str], None],
    ) -> dict[str, Any]:
        texts = {"manifest.json": package_manifest(), "main/model.onnx": graph("Identity")}
        for path, data in texts.items():
            target = slot.workdir / "package" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return {"files": [{"path": path} for path in texts], "description": {"graphs": GRAPHS}}


async def convert(workplace: Workplace, version: str, template: str, **spec: Any) -> conversions.ConversionTask:
    wanted = from_values({"model_version": version, "template": template, **spec}, conversions.ConversionSpec())
    request = conversions.CreateConversionTaskRequest(task=conversions.ConversionTask(spec=wanted))
    task: conversions.ConversionTask = await workplace.conversions.CreateConversionTask(request)
    return task


@pytest.fixture
async def source(workplace: Workplace) -> ModelVersion:
    return await workplace.source()


async def test_a_conversion_and_its_cache_hit(workplace: Workplace, source: ModelVersion) -> None:
    created: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    async with workplace.worker(ConversionWorkKind(DEVICE), Conversion().run):
        with recorded(created):
            task = await convert(workplace, source.name, ONNX_TEMPLATE)
        done = await workplace.converted(task)
        assert done.status.state == TASK_STATE_SUCCEEDED, done.status
        with recorded(hit):
            again = await convert(workplace, source.name, ONNX_TEMPLATE)
    assert {"ReadTaskSource", "ResolveTaskTemplate", "HoldModelVersion"} <= created.keys()
    assert not {"GetModelVersion", "GetModel", "DescribeModelVersion"} & created.keys()
    assert again.result == done.result
    assert hit == {"ReadTaskSource": 1, "ResolveTaskTemplate": 1}


async def test_a_cache_hit_of_a_state_dict(workplace: Workplace) -> None:
    """Its architecture is the version's in the first round, and another one that the overrides name in the second."""
    architectures = [
        await workplace.registry.architectures.CreateArchitecture(
            CreateArchitectureRequest(architecture=new_architecture())
        )
        for _ in range(2)
    ]
    version = await workplace.registry.version(
        await workplace.registry.model(),
        ModelVersion(
            format=MODEL_FORMAT_PTH,
            files=[await workplace.registry.file("net.pth", state_dict())],
            architecture=architectures[0].name,
        ),
    )
    for architecture in architectures:
        component = {"name": "model", "architecture": architecture.name, "inputs": INPUTS}
        paths = ["components.model.architecture", "components.model.inputs"]
        spec = {"overrides": {"values": {"components": [component]}, "paths": paths}}
        hit: Counter[str] = Counter()
        async with workplace.worker(ConversionWorkKind(DEVICE), Conversion().run):
            done = await workplace.converted(await convert(workplace, version.name, PTH_TEMPLATE, **spec))
            assert done.status.state == TASK_STATE_SUCCEEDED, done.status
            with recorded(hit):
                again = await convert(workplace, version.name, PTH_TEMPLATE, **spec)
        assert again.result == done.result
        assert hit == {"ReadTaskSource": 1, "ResolveTaskTemplate": 1}


async def test_a_result_that_was_deleted_is_registered_again(workplace: Workplace, source: ModelVersion) -> None:
    async with workplace.worker(ConversionWorkKind(DEVICE), Conversion().run):
        done = await workplace.converted(await convert(workplace, source.name, ONNX_TEMPLATE))
        delete = DeleteModelVersionRequest(name=done.result.model_version)
        await workplace.registry.models.DeleteModelVersion(delete)
        again = await convert(workplace, source.name, ONNX_TEMPLATE)
    assert again.status.state == TASK_STATE_SUCCEEDED
    assert again.result.model_version not in ("", done.result.model_version)


async def test_a_package_is_described_by_the_task_that_made_it(
    workplace: Workplace, source: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def describe(*_: Any) -> None:
        raise AssertionError("the registry reads the files of a package that a task has described")

    monkeypatch.setattr(Describer, "describe", describe)
    async with workplace.worker(ConversionWorkKind(DEVICE), Conversion().run):
        done = await workplace.converted(await convert(workplace, source.name, ONNX_TEMPLATE))
    assert done.status.state == TASK_STATE_SUCCEEDED, done.status
    request = DescribeModelVersionRequest(name=done.result.model_version)
    found = await workplace.registry.models.DescribeModelVersion(request)
    assert list(found.graphs) == [from_values(entry, GraphDescription()) for entry in GRAPHS]
    assert (found.format, found.parameter_count) == (MODEL_FORMAT_PACKAGE, 7)
    assert found.size_bytes > 0


async def test_creating_other_tasks(workplace: Workplace, source: ModelVersion, digits: Dataset) -> None:
    package = await workplace.package(source)
    once = {"ReadTaskSource": 1, "HoldModelVersion": 1}
    asked: Counter[str] = Counter()
    with recorded(asked):
        await create_quantization(workplace, source, device=DEVICE, runtime="onnxruntime", scheme="WEIGHT_ONLY")
    assert asked == once | {"ResolveTaskTemplate": 1}
    asked.clear()
    with recorded(asked):
        # Of its own seed: another test may have done the same work, and a cache hit holds nothing.
        await create_optimization(workplace, source, seed=4711)
    assert asked == once | {"ResolveTaskTemplate": 1}
    asked.clear()
    with recorded(asked):
        await create_evaluation(workplace, package, dataset=digits.name, samples=3, seed=4711)
    assert asked == once | {"GetDataset": 1, "SelectDatasetItems": 1, "HoldDataset": 1}
