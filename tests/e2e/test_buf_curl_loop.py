"""The loop by `buf curl`, with the schema from reflection: what any gRPC client in any language can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.beasts import COUNT, Beasts, archive, coco, png
from tests.e2e.calls import buf_call, buf_curl, buf_error
from tests.e2e.test_buf_curl import REGISTRY, put_file

DATASETS, RELEASES = f"{REGISTRY}.DatasetService", f"{REGISTRY}.ReleaseService"
QUANTIZER, EVALUATOR = "lathe.quantizer.v1.QuantizationService", "lathe.evaluator.v1.EvaluationService"


def import_dataset(registry: str, name: str, file: dict[str, object], **fields: Any) -> dict[str, Any]:
    """Create a dataset, watch its import to the end, and return it."""
    asked = {"dataset": {"display_name": name, "files": [file], **fields}}
    (made,) = buf_call(registry, f"{DATASETS}/CreateDataset", asked)
    *_, found = buf_call(registry, f"{DATASETS}/WatchDataset", {"name": made["name"]})
    last: dict[str, Any] = found
    return last


def run(address: str, service: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Create a task, watch it to its end, and return it as it is then."""
    (task,) = buf_call(address, f"{service}/Create{kind}Task", {"task": {"spec": spec}})
    *_, last = buf_call(address, f"{service}/Watch{kind}Task", {"name": task["name"]})
    assert last["status"]["state"] == "TASK_STATE_SUCCEEDED", last
    ended: dict[str, Any] = last
    return ended


def test_the_loop_without_any_program_of_ours(beasts: Beasts, tmp_path: Path) -> None:
    registry, quantizer, evaluator = (
        beasts.desk.suite.address(name) for name in ("registry", "quantizer", "evaluator")
    )
    upload = tmp_path / "curled.zip"
    upload.write_bytes(archive({f"{('cat', 'dog', 'hen', 'cow')[n % 4]}/{n}.png": png(5000 + n) for n in range(8)}))
    mapping = {"template": "templates/tiny", "entries": [{"task": "animal", "key": "class"}]}
    data = import_dataset(registry, "Curled", put_file(registry, upload), mapping=mapping)
    assert (data["state"], data["itemCount"], data["format"]) == (
        "DATASET_STATE_READY",
        "8",
        "DATASET_FORMAT_IMAGE_FOLDER",
    )
    (page,) = buf_call(registry, f"{DATASETS}/ListDatasetItems", {"parent": data["name"], "page_size": 3})
    assert len(page["items"]) == 3
    (preview,) = buf_call(registry, f"{DATASETS}/PreviewDatasetItem", {"name": page["items"][0]["name"]})
    assert httpx.get(preview["imageUrl"], trust_env=False).content.startswith(b"\x89PNG")

    spec: dict[str, Any] = {"model_version": beasts.package, "scheme": "QUANTIZATION_SCHEME_DYNAMIC"}
    made = run(quantizer, QUANTIZER, "Quantization", spec)["result"]["modelVersion"]
    spec = {"model_version": made, "dataset": data["name"], "batch_size": 4}
    after = run(evaluator, EVALUATOR, "Evaluation", spec)
    before = run(evaluator, EVALUATOR, "Evaluation", spec | {"model_version": beasts.package})
    top1 = next(each for each in after["result"]["metrics"] if each["name"] == "top1")
    assert top1["value"] == 1
    names = [before["name"], after["name"]]
    to_compare = {"evaluation_comparison": {"tasks": names}}
    (begun,) = buf_call(evaluator, f"{EVALUATOR}/CreateEvaluationComparison", to_compare)
    *_, comparison = buf_call(evaluator, f"{EVALUATOR}/WatchEvaluationComparison", {"name": begun["name"]})
    assert (comparison["tasks"], comparison["agreement"], comparison["samples"]) == (names, 1, "8")
    (listed,) = buf_call(evaluator, f"{EVALUATOR}/ListEvaluationComparisons", {"filter": f'tasks:"{after["name"]}"'})
    assert comparison["name"] in {each["name"] for each in listed["evaluationComparisons"]}

    rules = {"require_evaluation": True, "dataset": data["name"], "bounds": [{"metric": "top1", "min": 0.9}]}
    channel = {"parent": "models/beasts", "channel": {"display_name": "By curl", "rules": rules}}
    (channel,) = buf_call(registry, f"{RELEASES}/CreateChannel", channel)
    asked = {"name": channel["name"], "model_version": made, "evaluation_task": after["name"]}
    (release,) = buf_call(registry, f"{RELEASES}/PromoteModelVersion", asked)
    assert {file["path"] for file in release["files"]} >= {"beasts/config.pbtxt", "beasts/1/model.onnx"}
    asked = {"model_version": made, "machine": {"device": "cpu-x86-64"}}
    assert buf_call(registry, f"{RELEASES}/CheckCompatibility", asked)[0]["compatible"] is True


def test_boxes_are_imported_and_drawn(beasts: Beasts, tmp_path: Path) -> None:
    registry = beasts.desk.suite.address("registry")
    upload = tmp_path / "boxes.zip"
    upload.write_bytes(coco())
    data = import_dataset(registry, "Curled boxes", put_file(registry, upload))
    assert (data["state"], data["report"]["boxes"]) == ("DATASET_STATE_READY", str(COUNT))
    (preview,) = buf_call(registry, f"{DATASETS}/PreviewDatasetItem", {"name": f"{data['name']}/items/3"})
    assert json.loads(preview["json"])["boxes"][0]["label"] == "cow"
    drawn = httpx.get(preview["annotatedUrl"], trust_env=False).content
    assert drawn.startswith(b"\x89PNG")
    assert drawn != httpx.get(preview["imageUrl"], trust_env=False).content


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "IoU": ("invalid_argument INVALID_ARGUMENT", {"dataset": "datasets/scenes", "iou_thresholds": [1.5]}),
    "precision": (
        "failed_precondition PRECISION_NOT_AVAILABLE",
        {"dataset": "datasets/scenes", "precision": "PRECISION_INT8"},
    ),
    "no data": ("invalid_argument INVALID_ARGUMENT", {}),
    "no dataset": ("not_found REFERENCE_NOT_FOUND", {"dataset": "datasets/none"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_has_a_code_and_a_reason(beasts: Beasts, what: str) -> None:
    expected, fields = REFUSED[what]
    task = json.dumps({"task": {"spec": {"model_version": beasts.package, **fields}}})
    done = buf_curl(beasts.desk.suite.address("evaluator"), "-d", task, f"{EVALUATOR}/CreateEvaluationTask")
    code, info = buf_error(done)
    assert (f"{code} {info.reason}", info.domain) == (expected, "lathe")
