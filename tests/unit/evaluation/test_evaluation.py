"""Common to all methods: kinds of data, batches, and rejected requests."""

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from engines.api.evaluation import MOST_METRICS, most_telling
from engines.evaluation.report import MetricValue
from engines.failures import EngineFailure, FailureReason
from engines.imaging import encode_png
from tests.unit.evaluation.kit import Desk, graph, identity, scorer

KINDS = [("kind", ["car", "van", "bus"])]


def refused(desk: Desk, reason: FailureReason, **spec: Any) -> str:
    with pytest.raises(EngineFailure) as caught:
        desk.run(**spec)
    assert caught.value.reason == reason
    return caught.value.message


def test_tensors_are_matched_by_input_name(desk: Desk) -> None:
    model = identity({"left": ("scores", 0), "right": ("other", 1)}, 3)
    desk.put_package(model, "classification", KINDS)
    rows = [
        {"classifications": {"kind": kind}, "attributes": {"half": str(number // 2)}}
        for number, kind in enumerate(["car", "van", "bus", "car"])
    ]
    desk.put_tensors({"left": np.eye(4, 3, dtype=np.float32), "right": np.zeros((4, 3), np.float32)}, rows)
    ran = desk.run(batch_size=3, slices=["half"])
    assert ran.figure("top1") == 1.0  # of equal scores the first class is taken
    assert ran.figure("top1", "half=1") == 1.0
    assert [row.row for row in ran.rows] == [0, 1, 2, 3]
    desk.items.clear()
    desk.put_tensors({"left": np.eye(4, 3, dtype=np.float32)}, [{}])
    assert "'right' has no array" in refused(desk, FailureReason.INVALID_DATA)


def test_a_component_runs_in_its_own_runtime(desk: Desk) -> None:
    manifest = desk.put_package(scorer([3]), "classification", KINDS)
    values = manifest.model_dump(mode="json", exclude_none=True)
    values["components"][0] |= {"runtime": values["runtime"], "precision": values["precision"]}
    values |= {"runtime": {"name": "openvino", "version": "2026.4.0"}, "precision": "BF16"}
    (desk.folder / "package" / "manifest.json").write_text(type(manifest).model_validate(values).to_json())
    desk.put_scores([0, 0, 255], classifications={"kind": "bus"})
    package = desk.run(precision="FP32").report.package
    assert (package.runtime, package.precision) == ("onnxruntime", "FP32")
    assert "the package has FP32" in refused(desk, FailureReason.INVALID_SPEC, precision="BF16")


def test_sequences_of_other_lengths_run_in_calls_of_their_own(desk: Desk) -> None:
    nodes = [helper.make_node("ReduceSum", ["ids", "axis"], ["scores"], keepdims=0)]
    given, made = {"ids": (TensorProto.FLOAT, ["N", "T", 3])}, {"scores": (TensorProto.FLOAT, ["N", 3])}
    manifest = desk.put_package(graph(nodes, given, made, {"axis": np.array([1])}), "classification", KINDS)
    text = manifest.to_json()
    assert '"max"' in text
    for length in (2, 2, 4):
        array = np.zeros((1, length, 3), np.float32)
        array[..., 1] = 1
        desk.put_tensors({"ids": array}, [{"classifications": {"kind": "van"}}])
    path = desk.folder / "package" / "manifest.json"
    values = manifest.model_dump(mode="json", exclude_none=True)
    values["components"][0]["signature"]["inputs"][0]["shape"] = {"min": [1, 1, 3], "opt": [1, 2, 3], "max": [4, 9, 3]}
    path.write_text(type(manifest).model_validate(values).to_json())
    ran = desk.run(batch_size=4)
    assert (ran.figure("top1"), ran.report.times.calls) == (1.0, 2)


def test_a_package_of_a_fixed_batch_is_fed_whole_batches(desk: Desk) -> None:
    desk.put_package(scorer([3], batch=4), "classification", KINDS)
    for kind, scores in (
        ("car", [9, 0, 0]),
        ("van", [0, 9, 0]),
        ("bus", [0, 0, 9]),
        ("car", [5, 0, 0]),
        ("van", [0, 5, 0]),
    ):
        desk.put_scores(scores, classifications={"kind": kind})
    ran = desk.run(batch_size=4)
    assert ran.figure("top1") == 1.0
    assert (ran.report.samples, ran.report.times.calls) == (5, 2)
    assert desk.run(batch_size=1).report.times.calls == 5


def test_uploaded_images_need_no_dataset(desk: Desk) -> None:
    desk.put_package(scorer([3]), "classification", KINDS)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", encode_png(np.full((1, 3, 3), number, np.uint8)))
        archive.writestr("3.png", b"not an image")
    (desk.folder / "images.bin").write_bytes(packed.getvalue())
    ran = desk.ask({"spec": {"images": {"sha256": "0" * 64}}})
    assert (ran.report.samples, ran.report.metrics, ran.report.spec.data) == (3, (), "images")
    assert len(ran.rows) == 3
    assert ran.report.warnings[0].startswith("Left out of the uploaded file: 1 item. 3.png: ")


def test_samples_are_chosen_by_the_seed(desk: Desk) -> None:
    desk.put_package(scorer([3]), "classification", KINDS)
    for number in range(20):
        desk.put_scores([number, 0, 0], classifications={"kind": "car"})
    chosen = [tuple(row.number for row in desk.run(samples=5, seed=seed).rows) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 5


def test_requests_that_do_not_fit_are_rejected_with_the_difference(desk: Desk) -> None:
    desk.put_package(scorer([3]), "classification", KINDS)
    assert "no such file" not in refused(desk, FailureReason.INVALID_DATA).lower()
    desk.put_scores([1, 2, 3], classifications={"kind": "car"}, attributes={"scene": "night", "light": "low"})
    spec = FailureReason.INVALID_SPEC
    assert "batch size is 5, but the package takes at most 4" in refused(desk, spec, batch_size=5)
    assert "precision is FP16, but the package has FP32" in refused(desk, spec, precision="FP16")
    said = refused(desk, spec, slices=["weather"])
    assert "no attribute 'weather' to slice by. Its attributes: light, scene" in said
    assert "no postprocess method 'magic'" in refused(desk, spec, method="magic")
    assert "has no argument 'size'" in refused(desk, spec, args={"size": {"si": "3"}})
    assert "'label_offset' is 'one'" in refused(desk, spec, args={"label_offset": {"ss": "one"}})
    message = refused(desk, FailureReason.OUTPUT_MISMATCH, method="yolo")
    assert "found: scores_0 float32 (1, 3)" in message
    assert "a yolo head is expected: (batch, n, 5 + 3)" in message
    message = refused(desk, FailureReason.OUTPUT_MISMATCH, args={"scores": {"ss": "logits"}})
    assert "an output of scores named 'logits' is expected; found: scores_0 float32 (1, 3)" in message
    desk.put_package(scorer([2]), "classification", KINDS)
    desk.items.clear()
    desk.put_scores([1, 2], classifications={"kind": "car"})
    assert "output 'scores_0' of the task 'kind' is expected to be (batch, 3)" in refused(
        desk, FailureReason.OUTPUT_MISMATCH
    )
    desk.put_package(identity({"a": ("x", 0), "b": ("y", 1)}, 3), "raw")
    assert "takes 2 inputs (a, b), but the data is images" in refused(desk, spec)


def test_an_output_that_is_not_one_row_per_sample_is_rejected(desk: Desk) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["scores"], axes=[0], keepdims=1)]
    made = {"scores": (TensorProto.FLOAT, [1, 3])}
    desk.put_package(graph(nodes, {"x": (TensorProto.FLOAT, ["N", 3])}, made, {}), "classification", KINDS)
    desk.put_tensors({"x": np.ones((4, 3), np.float32)}, [{}] * 4)
    message = refused(desk, FailureReason.OUTPUT_MISMATCH, batch_size=4)
    assert "the batch has 4 samples, the outputs 1 row" in message


def test_raw_outputs_have_statistics_only(desk: Desk) -> None:
    desk.put_package(identity({"x": ("y", 0)}, 3), "raw")
    values = np.array([[1, 2, np.inf], [3, 4, 5]], np.float32)
    desk.put_tensors({"x": values}, [{}, {}])
    ran = desk.run(preprocessing=[{"cvt_rgb": True}])
    assert any("requested preprocessing steps were not used" in line for line in ran.report.warnings)
    (output,) = ran.report.outputs
    assert (output.name, output.dtype, output.shape, output.elements, output.not_finite) == ("y", "float32", (3,), 6, 1)
    finite = values[np.isfinite(values)]
    assert (output.minimum, output.maximum) == (1, 5)
    assert output.mean == pytest.approx(finite.mean())
    assert output.deviation == pytest.approx(finite.std())
    assert (ran.report.metrics, ran.report.main_metric) == ((), "")


def test_a_damaged_image_is_named(desk: Desk) -> None:
    desk.put_package(scorer([3]), "classification", KINDS)
    desk.put_bytes(b"no image at all", path="night/7.png", width=3, height=1)
    assert "night/7.png" in refused(desk, FailureReason.INVALID_DATA)


def test_a_result_has_the_figures_of_all_data_first() -> None:
    def entry(name: str, part: str = "") -> MetricValue:
        return MetricValue(name=name, value=0.5, low=0.4, high=0.6, slice=part)

    classes = [entry(f"recall/{number}", "a=b") for number in range(MOST_METRICS)]
    kept = most_telling([*classes, entry("top1", "a=b"), entry("recall/0"), entry("top1")])
    assert len(kept) == MOST_METRICS
    assert kept[-3:] == [entry("top1", "a=b"), entry("recall/0"), entry("top1")]
