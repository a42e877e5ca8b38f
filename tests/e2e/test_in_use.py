"""What a task reads is not deleted under it, and a running task stops when it is told to."""

from __future__ import annotations

from typing import Any

import pytest
from lathe.quantizer.v1 import quantization_service_pb2 as quantizer
from lathe.registry.v1 import dataset_service_pb2 as dataset
from lathe.registry.v1 import model_service_pb2 as model
from lathe.type.v1 import failure_pb2, task_pb2
from lathe_client.tasks import kind_of

from tests.e2e.beasts import Beasts
from tests.e2e.calls import refusal
from tests.e2e.desk import Desk
from tests.eventually import wait_for

SLEEP = "    import time\n    time.sleep(600)"


def begin(beasts: Beasts, kind: str, data: str) -> tuple[str, Any]:
    """Begin a task that reads a dataset and does not end by itself; return the version that it reads, and the task."""
    desk = beasts.desk
    if kind == "quantization":
        architecture = desk.register("Dreamer", SLEEP).rpartition("/")[2]
        version = desk.push("dreamer", desk.weights[0], architecture)
        data_ = quantizer.CalibrationData(dataset=data)
        where = {"template": desk.template, "device": "cpu-x86-64", "runtime": "onnxruntime"}
        return version, desk.quantize(version, calibration_data=data_, **where)
    return beasts.package, desk.evaluate(beasts.package, dataset=data, loops=10_000)


@pytest.mark.parametrize("kind", ["quantization", "evaluation"])
def test_a_dataset_stays_while_a_task_reads_it(beasts: Beasts, kind: str) -> None:
    desk = beasts.desk
    sample = [dataset.DerivationStep(sample=dataset.SampleItems(count=20, seed=1))]
    derivation = dataset.Derivation(sources=[beasts.scenes], steps=sample)
    asked = dataset.Dataset(display_name=f"Read by a {kind}", derivation=derivation)
    data = desk.rpc.datasets.DeriveDataset(dataset.DeriveDatasetRequest(dataset=asked)).name
    get = dataset.GetDatasetRequest(name=data)
    wait_for(lambda: desk.rpc.datasets.GetDataset(get).state == dataset.DATASET_STATE_READY)
    version, task = begin(beasts, kind, data)
    wait_for(lambda: desk.get(task).status.stage == failure_pb2.TASK_STAGE_EXECUTING)

    for call, request in (
        (desk.rpc.datasets.DeleteDataset, dataset.DeleteDatasetRequest(name=data)),
        (desk.rpc.models.DeleteModelVersion, model.DeleteModelVersionRequest(name=version)),
    ):
        refused = refusal(call, request)
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "IN_USE")
        assert task.name in refused.message
    assert desk.rpc.datasets.GetDataset(get).item_count == 20

    cancel(desk, task)
    wait_for(desk.clean)
    desk.delete_data(data)
    assert refusal(desk.rpc.datasets.GetDataset, get).code == "NOT_FOUND"
    # What it was derived from, and its images, are still there.
    items = desk.rpc.datasets.ListDatasetItems(dataset.ListDatasetItemsRequest(parent=beasts.scenes, page_size=1))
    preview = dataset.PreviewDatasetItemRequest(name=items.items[0].name)
    assert desk.rpc.datasets.PreviewDatasetItem(preview).image_url


def cancel(desk: Desk, task: Any) -> None:
    """Cancel a running task, which would go on for longer than is waited for here."""
    kind_of(task.name).call(desk.rpc, "Cancel", name=task.name)
    wait_for(lambda: desk.get(task).status.state == task_pb2.TASK_STATE_CANCELLED)
    ended = desk.get(task)
    assert [attempt.outcome for attempt in ended.attempts] == [task_pb2.ATTEMPT_OUTCOME_CANCELLED]
    assert not ended.HasField("result")
