"""The loop through the command line: data in, quantized, judged before and after, compared, released, rolled back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from tests.e2e.beasts import COUNT, WRONG, Beasts, coco, save_folder, save_tensors, tensors
from tests.e2e.conftest import Suite
from tests.e2e.loop import evaluate, figures, quantize, self_contained

TOP1 = (COUNT - len(WRONG)) / COUNT
NIGHT = (COUNT // 2 - len(WRONG)) / (COUNT // 2)


@pytest.fixture(scope="module")
def folder(beasts: Beasts, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the id of a dataset that was made from a folder of images per class."""
    images = save_folder(tmp_path_factory.mktemp("folder"))
    made = beasts.desk.suite.json(
        "datasets", "create", "Beasts by class", str(images), "--template", "tiny", "--map", "animal=class"
    )
    assert (made["state"], made["format"], made["item_count"]) == (
        "DATASET_STATE_READY",
        "DATASET_FORMAT_IMAGE_FOLDER",
        str(COUNT),
    )
    return str(made["name"].removeprefix("datasets/"))


@pytest.fixture(scope="module")
def quantized(beasts: Beasts, folder: str) -> dict[str, Any]:
    return quantize(beasts, folder, "--label", "team=loop")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def judged(beasts: Beasts, quantized: dict[str, Any], reports: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The evaluations before and after."""
    versions = {"before": beasts.package, "after": quantized["result"]["model_version"]}
    first, second = (
        evaluate(beasts, version, "--report", str(reports / f"{when}.html")) for when, version in versions.items()
    )
    return first, second


def test_datasets_of_every_format_hold_what_was_put_in(beasts: Beasts, folder: str, tmp_path: Path) -> None:
    suite = beasts.desk.suite
    boxes = tmp_path / "coco.zip"
    boxes.write_bytes(coco())
    found = suite.json("datasets", "create", "Boxed beasts", str(boxes))
    assert (found["format"], found["type"], found["report"]["boxes"]) == (
        "DATASET_FORMAT_COCO",
        "DATASET_TYPE_DETECTION",
        str(COUNT),
    )
    (item,) = suite.json("datasets", "items", "boxed-beasts", "--limit", "1")
    assert item["boxes"] == [{"label": "cat", "x": 1.0, "y": 2.0, "width": 5.0, "height": 4.0}]
    arrays = save_tensors(tmp_path / "tensors.npz", tensors())
    found = suite.json("datasets", "create", "Beasts as tensors", str(arrays))
    assert (found["format"], found["type"], found["item_count"]) == (
        "DATASET_FORMAT_TENSOR_FILES",
        "DATASET_TYPE_TENSORS",
        str(COUNT),
    )
    shown = suite.json("datasets", "get", "scenes")
    assert (shown["format"], shown["type"]) == ("DATASET_FORMAT_JSONL", "DATASET_TYPE_CLASSIFICATION")
    assert {(each["key"], each["value"], each["count"]) for each in shown["attributes"]} == {
        ("scene", "day", "12"),
        ("scene", "night", "12"),
    }
    assert {each["value"]: each["count"] for each in suite.json("datasets", "get", folder)["classes"]} == dict.fromkeys(
        ("cat", "dog", "hen", "cow"), "6"
    )


def test_quantization_keeps_the_accuracy_and_says_what_was_tried(quantized: dict[str, Any]) -> None:
    result = quantized["result"]
    assert (result["metric"], result["bound_held"]) == ("top1", True)
    assert result["source_accuracy"] == pytest.approx(TOP1)
    assert result["accuracy"] >= TOP1 - 0.01
    assert sum(each.get("chosen", False) for each in result["candidates"]) == 1
    assert all(each.get("reason") or each.get("chosen") for each in result["candidates"])
    assert {each["operator"] for each in result["sensitivities"]} == {"Conv", "Gemm"}
    assert result["parity"]["outputs"]
    assert len(result["profile"]["forms"]) >= 2


def test_the_quantized_version_is_a_package_of_its_own(
    beasts: Beasts, quantized: dict[str, Any], tmp_path: Path
) -> None:
    suite, name = beasts.desk.suite, quantized["result"]["model_version"]
    version = suite.json("models", "get", name)
    assert (version["package"]["precision"], version["lineage"]["sources"][0]) == ("PRECISION_INT8", beasts.package)
    graph = suite.json("models", "lineage", name)
    before = {node["name"] for node in graph["nodes"] if node.get("distance", 0) < 0}
    assert before >= {beasts.package, quantized["name"]}
    suite.lathe("models", "download", name, "-d", str(tmp_path))
    assert self_contained(tmp_path / "quantization.html")
    assert json.loads((tmp_path / "manifest.json").read_text())["precision"] == "INT8"


def test_evaluation_tells_the_figures_that_are_known(judged: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for task in judged:
        known = figures(task)
        assert known["top1", ""] == pytest.approx(TOP1)
        assert known["top1", "scene=day"] == 1.0
        assert known["top1", "scene=night"] == pytest.approx(NIGHT)
        assert (task["result"]["samples"], task["result"]["main_metric"]) == (str(COUNT), "top1")
        times = task["result"]["times"]
        assert 0 < times["inference_ms"] < times["total_ms"]
        top1 = next(each for each in task["result"]["metrics"] if each["name"] == "top1")
        assert top1["low"] < TOP1 < top1["high"] <= 1.0


def test_tensors_and_a_quick_validation_are_evaluated_too(beasts: Beasts, folder: str, tmp_path: Path) -> None:
    suite = beasts.desk.suite
    task = suite.json("evaluate", beasts.package, "-d", "beasts-as-tensors", "--batch", "4")
    assert figures(task)["top1", ""] == 1.0
    archive = tmp_path / "pictures.zip"
    suite.lathe("datasets", "download", folder, "--file", str(archive))
    quick = suite.json("evaluate", beasts.package, "--images", str(archive), "--samples", "8")
    assert (quick["result"]["samples"], quick["spec"].get("dataset", "")) == ("8", "")


def test_reports_are_pages_that_need_nothing_else(judged: tuple[dict[str, Any], dict[str, Any]], reports: Path) -> None:
    assert judged
    for when in ("before", "after"):
        page = reports / f"{when}.html"
        assert self_contained(page)
        assert "scene=night" in page.read_text() or "night" in page.read_text()
        assert "top1" in page.read_text() or "top-1" in page.read_text().lower()


def test_equal_work_is_done_once(
    beasts: Beasts, folder: str, quantized: dict[str, Any], judged: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    again = quantize(beasts, folder)
    assert (again["origin"]["cache_hit"], again["result"]) == (quantized["name"], quantized["result"])
    again = evaluate(beasts, beasts.package)
    assert (again["origin"]["cache_hit"], again["result"]) == (judged[0]["name"], judged[0]["result"])
    assert not again.get("attempts")
    told = beasts.desk.suite.lathe("tasks", "get", again["name"].partition("/")[2])
    assert judged[0]["name"] in told.stderr


def test_a_comparison_pairs_the_samples(
    beasts: Beasts, judged: tuple[dict[str, Any], dict[str, Any]], reports: Path
) -> None:
    suite, page = beasts.desk.suite, reports / "comparison.html"
    names = [task["name"] for task in judged]
    made = suite.json("compare", names[0].partition("/")[2], names[1], "--report", str(page))
    assert (made["tasks"], made["samples"], made["dataset"]) == (names, str(COUNT), "datasets/scenes")
    assert made["agreement"] == 1.0
    deltas = {(each["delta"]["name"], each["delta"].get("slice", "")) for each in made["deltas"]}
    assert {("top1", ""), ("top1", "scene=night"), ("recall/hen", "")} <= deltas
    assert self_contained(page)
    assert "24 samples" in suite.lathe("compare", *names).stderr


def test_tasks_are_found_by_kind_and_by_what_they_use(
    beasts: Beasts, folder: str, quantized: dict[str, Any], judged: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    def listed(*flags: str) -> set[str]:
        return {task["name"] for task in beasts.desk.suite.json("tasks", "list", "--limit", "200", *flags)}

    evaluations = {task["name"] for task in judged}
    quantizations = listed("--kind", "quantization")
    assert quantized["name"] in quantizations
    assert not quantizations & (evaluations | {beasts.conversion})
    assert listed("--uses", "datasets/scenes") >= evaluations | {quantized["name"]}
    assert quantized["name"] in listed("--uses", f"datasets/{folder}")
    assert not evaluations & listed("--uses", f"datasets/{folder}")
    assert {beasts.conversion} <= listed("--uses", beasts.source)
    assert listed("--kind", "evaluation", "--uses", quantized["result"]["model_version"]) >= {judged[1]["name"]}
    assert listed("--label", "team=loop") == {quantized["name"]}
    refused = beasts.desk.suite.lathe("tasks", "list", "--kind", "guess", check=False)
    assert refused.returncode == 2
    assert "quantization" in refused.stderr


def test_a_bare_id_is_enough(beasts: Beasts, quantized: dict[str, Any]) -> None:
    suite, bare = beasts.desk.suite, quantized["name"].partition("/")[2]
    assert suite.json("tasks", "get", bare)["name"] == quantized["name"]
    assert suite.lathe("tasks", "watch", bare).returncode == 0
    assert "onnxruntime" in suite.lathe("tasks", "logs", bare).stdout
    assert suite.lathe("tasks", "get", "0" * 8, check=False).returncode == 3


def promote(suite: Suite, version: str, evaluation: str) -> Any:
    return suite.json("promote", version, "-c", "production", "--evaluation", evaluation, "--note", "better")


def triton_config(beasts: Beasts, key: str) -> Any:
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(beasts.desk.read(key).decode(), model_config_pb2.ModelConfig())


def test_a_release_is_laid_out_for_triton_and_rolled_back(
    beasts: Beasts, quantized: dict[str, Any], judged: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    suite, root = beasts.desk.suite, "triton/beasts/production/beasts"
    rules = ["--require-parity", "--require-evaluation", "--dataset", "scenes"]
    bounds = ["--bound", "top1>=0.9", "--bound", "top1@scene=night>=0.8"]
    suite.json("channels", "create", "beasts/production", *rules, *bounds)
    first = promote(suite, beasts.package, judged[0]["name"].partition("/")[2])
    assert len(first["checks"]) == 5
    second = promote(suite, quantized["result"]["model_version"], judged[1]["name"])
    assert second["previous_release"] == first["name"]
    config = triton_config(beasts, f"{root}/config.pbtxt")
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 4)
    assert list(config.version_policy.specific.versions) == [2]
    assert [(each.name, list(each.dims)) for each in config.input] == [("image", [3, 8, 8])]
    assert [each.name for each in config.output] == ["logits"]
    assert config.HasField("dynamic_batching")
    keys = beasts.desk.keys("triton/beasts/production/")
    assert {f"{root}/config.pbtxt", f"{root}/2/model.onnx"} <= keys
    assert {f"triton/beasts/production/{file['path']}" for file in second["files"]} <= keys

    back = suite.json("rollback", "beasts", "-c", "production", "--note", "too slow")
    assert (back["kind"], back["restored_release"]) == ("RELEASE_KIND_ROLLBACK", first["name"])
    served = triton_config(beasts, f"{root}/config.pbtxt").version_policy.specific.versions
    assert list(served) == [3]
    assert f"{root}/3/model.onnx" in beasts.desk.keys("triton/beasts/production/")
    channel = suite.json("channels", "get", "beasts/production")
    assert (channel["current_release"], channel["current_version"]) == (back["name"], beasts.package)
    history = suite.json("releases", "beasts", "-c", "production")
    assert [(each["name"].rpartition("/")[2], each["kind"]) for each in history] == [
        ("3", "RELEASE_KIND_ROLLBACK"),
        ("2", "RELEASE_KIND_PROMOTION"),
        ("1", "RELEASE_KIND_PROMOTION"),
    ]
    assert all(each["owner"] and each["create_time"] and each["note"] for each in history)


def test_what_serves_is_not_deleted(beasts: Beasts) -> None:
    suite = beasts.desk.suite
    refused = suite.lathe("models", "delete", beasts.package, check=False)
    assert refused.returncode == 7
    assert "channels/production" in refused.stderr
    assert suite.lathe("channels", "delete", "beasts/production", check=False).returncode == 7


def test_compatibility_is_answered_with_reasons(beasts: Beasts, quantized: dict[str, Any]) -> None:
    suite, version = beasts.desk.suite, quantized["result"]["model_version"]
    assert suite.json("check-compatibility", version, "--device", "cpu-x86-64")["compatible"] is True
    refused = suite.lathe("check-compatibility", version, "--device", "nvidia-h100", "-o", "json", check=False)
    assert refused.returncode == 1
    assert any("nvidia-h100" in reason for reason in json.loads(refused.stdout)["reasons"])
    old = suite.lathe("check-compatibility", version, "--runtime-version", "1.0.0", "-o", "json", check=False)
    assert old.returncode == 1
    assert "1.0.0" in old.stdout
