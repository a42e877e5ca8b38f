"""Quantizations, evaluations and promotions that must be refused or fail: each says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from lathe.evaluator.v1 import evaluation_service_pb2 as evaluator
from lathe.quantizer.v1 import quantization_service_pb2 as quantizer
from lathe.registry.v1 import dataset_service_pb2 as dataset
from lathe.registry.v1 import model_service_pb2 as model
from lathe.registry.v1 import release_service_pb2 as release
from lathe.type.v1 import failure_pb2, task_pb2
from lathe.type.v1.precision_pb2 import PRECISION_FP32, PRECISION_INT8

from services.platform.words import word
from tests.e2e.beasts import COUNT, Beasts, archive, npz, png, tensors
from tests.e2e.calls import Refusal, refusal, refusal_of, violations
from tests.e2e.desk import Desk
from tests.e2e.test_bad_datasets import poisoned
from tests.eventually import wait_for

FEW = {name: array[:2] for name, array in tensors().items()}


@dataclass(frozen=True)
class Bad:
    """What a task is given that must fail, and what it must say."""

    reason: str
    said: tuple[str, ...]
    calibration: Callable[[], bytes] | None = None
    images: Callable[[], bytes] | None = None
    spec: tuple[tuple[str, Any], ...] = ()


FAILING = {
    "calibration smaller than a batch": Bad("INVALID_DATA", ("2 samples", "batch of 4"), lambda: npz(FEW)),
    "NaN in calibration": Bad("INVALID_DATA", ("'image'", "row 0"), poisoned),
    "calibration is a bomb": Bad("INVALID_DATA", ("bomb",), lambda: archive({"a.png": bytes(200 << 20)})),
    "calibration leads outside": Bad("INVALID_DATA", ("'../a.png'",), lambda: archive({"../a.png": png(0)})),
    "unknown node": Bad(
        "INVALID_SPEC", ("'Conv_99'", "Conv_18"), lambda: npz(tensors()), spec=(("excluded_nodes", ["Conv_99"]),)
    ),
    "no detector": Bad(
        "OUTPUT_MISMATCH", ("expected", "found: logits float32 (1, 4)"), spec=(("method", "detection"),)
    ),
    "no yolo": Bad("OUTPUT_MISMATCH", ("yolo head is expected", "logits float32 (1, 4)"), spec=(("method", "yolo"),)),
    "no image": Bad(
        "INVALID_DATA", ("a.png", "not in a supported format"), images=lambda: archive({"a.png": b"no image"})
    ),
    "no archive": Bad("INVALID_DATA", ("not a dataset",), images=lambda: b"\x00" * 100),
}


@pytest.fixture(scope="module")
def tasks(beasts: Beasts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One task per bad thing, all of them waiting in line; and a look at what they left."""
    desk, folder = beasts.desk, tmp_path_factory.mktemp("bad")
    before = desk.versions("beasts")
    made: dict[str, Any] = {}
    for what, bad in FAILING.items():
        if bad.calibration:
            data = quantizer.CalibrationData(artifact=desk.store(bad.calibration(), folder).digest, batch_size=4)
            made[what] = desk.quantize(beasts.package, calibration_data=data, **dict(bad.spec))
        elif bad.images:
            made[what] = desk.evaluate(beasts.package, images=desk.store(bad.images(), folder).digest)
        else:
            made[what] = desk.evaluate(beasts.package, dataset=beasts.scenes, **dict(bad.spec))
    yield made
    for task in made.values():  # one whose test was left out is still in line
        desk.cancel(task)
    wait_for(desk.clean)
    assert desk.versions("beasts") == before


@pytest.mark.parametrize("what", FAILING)
def test_a_task_that_cannot_succeed_says_why(beasts: Beasts, tasks: dict[str, Any], what: str) -> None:
    ended = beasts.desk.finish(tasks[what])
    assert ended.status.state == task_pb2.TASK_STATE_FAILED, ended
    assert not ended.HasField("result")
    assert len(ended.attempts) == 1, ended.attempts
    failure = ended.status.failure
    assert word(failure_pb2.FailureReason, failure.reason) == FAILING[what].reason
    for words in FAILING[what].said:
        assert words in failure.message
    assert failure.suggested_fix


def calibration(name: str, **fields: Any) -> dict[str, Any]:
    return {"calibration_data": quantizer.CalibrationData(dataset=name, **fields)}


REFUSED: dict[str, tuple[Callable[[Beasts], Any], tuple[str, str], tuple[str, ...]]] = {
    "IoU of 1.5": (
        lambda b: b.desk.evaluate(b.package, dataset=b.scenes, iou_thresholds=[1.5]),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("iou_thresholds[0]", "1.5", "less than or equal to 1"),
    ),
    "a precision that it does not have": (
        lambda b: b.desk.evaluate(b.package, dataset=b.scenes, precision=PRECISION_INT8),
        ("FAILED_PRECONDITION", "PRECISION_NOT_AVAILABLE"),
        ("beasts/versions/2", "FP32", "INT8", "quantize"),
    ),
    "no package": (
        lambda b: b.desk.evaluate(b.source, dataset=b.scenes),
        ("FAILED_PRECONDITION", "NOT_A_PACKAGE"),
        (".pth".upper()[1:], "Convert it first"),
    ),
    "no such slice": (
        lambda b: b.desk.evaluate(b.package, dataset=b.scenes, slices=["weather"]),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("weather", "they are scene"),
    ),
    "no such class task": (
        lambda b: b.desk.evaluate(b.package, dataset=b.scenes, class_tasks=["plant"]),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("plant", "they are animal"),
    ),
    "batch larger than the package's": (
        lambda b: b.desk.evaluate(b.package, dataset=b.scenes, batch_size=5),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("5 is more", "which is 4"),
    ),
    "no such dataset": (
        lambda b: b.desk.evaluate(b.package, dataset="datasets/none"),
        ("NOT_FOUND", "REFERENCE_NOT_FOUND"),
        ("datasets/none",),
    ),
    "too few samples for a batch": (
        lambda b: b.desk.quantize(b.package, **calibration(b.scenes, samples=128, batch_size=64)),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        (f"gives {COUNT} samples", "one batch takes 64", "smaller batch_size"),
    ),
    "static without data": (
        lambda b: b.desk.quantize(b.package),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("name a dataset or an artifact",),
    ),
    "precision that no quantization makes": (
        lambda b: b.desk.quantize(b.package, precision=PRECISION_FP32, **calibration(b.scenes)),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("FP32 needs no quantization",),
    ),
    "files that are not stored": (
        lambda b: b.desk.evaluate(b.package, images={"sha256": "0" * 64, "size_bytes": 5}),
        ("FAILED_PRECONDITION", "BLOB_NOT_FOUND"),
        ("0" * 64, "upload"),
    ),
}


def refused(make: Callable[[], Any]) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        make()
    return refusal_of(caught.value)


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_cannot_be_makes_no_task(beasts: Beasts, what: str) -> None:
    make, code, said = REFUSED[what]
    found = refused(lambda: make(beasts))
    assert (found.code, found.reason) == code
    for words in said:
        assert words in found.message


def test_an_empty_dataset_is_judged_by_nobody(beasts: Beasts) -> None:
    desk = beasts.desk
    steps = [dataset.DerivationStep(filter=dataset.FilterItems(key="scene", values=["dawn"]))]
    asked = dataset.Dataset(display_name="At dawn", derivation=dataset.Derivation(sources=[beasts.scenes], steps=steps))
    name = desk.rpc.datasets.DeriveDataset(dataset.DeriveDatasetRequest(dataset=asked)).name
    get = dataset.GetDatasetRequest(name=name)
    wait_for(lambda: desk.rpc.datasets.GetDataset(get).state == dataset.DATASET_STATE_IMPORT_FAILED)
    failure = desk.rpc.datasets.GetDataset(get).failure
    assert "'dawn'" in failure.message
    assert "day, night" in failure.message
    for make in (
        lambda: desk.evaluate(beasts.package, dataset=name),
        lambda: desk.quantize(beasts.package, **calibration(name)),
    ):
        found = refused(make)
        assert (found.code, found.reason) == ("FAILED_PRECONDITION", "DATASET_NOT_READY")
        assert name in found.message
    desk.rpc.datasets.DeleteDataset(dataset.DeleteDatasetRequest(name=name))


def test_a_dataset_that_annotates_something_else_bounds_no_accuracy(beasts: Beasts, tmp_path: Path) -> None:
    desk = beasts.desk
    plain = desk.import_dataset("Plain", desk.store(archive({f"{n}.png": png(n) for n in range(4)}), tmp_path))
    assert plain.type == dataset.DATASET_TYPE_UNANNOTATED
    bound = quantizer.AccuracyBound(dataset=plain.name, max_degradation=1)
    found = refused(lambda: desk.quantize(beasts.package, accuracy=bound, **calibration(beasts.scenes)))
    assert (found.code, found.reason) == ("FAILED_PRECONDITION", "ANNOTATIONS_MISSING")
    assert plain.name in found.message
    desk.rpc.datasets.DeleteDataset(dataset.DeleteDatasetRequest(name=plain.name))


def test_an_uploaded_package_has_no_source_graph(beasts: Beasts) -> None:
    desk = beasts.desk
    files = desk.rpc.models.GetModelVersion(model.GetModelVersionRequest(name=beasts.package)).files
    created = desk.rpc.models.CreateModel(model.CreateModelRequest(model=model.Model(display_name="Brought along")))
    info = model.PackageInfo(repo="tests", package_name="beasts", method="classification", version="1")
    version = model.ModelVersion(format=model.MODEL_FORMAT_PACKAGE, files=files, package=info)
    request = model.CreateModelVersionRequest(parent=created.name, model_version=version)
    name = desk.rpc.models.CreateModelVersion(request).name
    found = refused(lambda: desk.quantize(name, **calibration(beasts.scenes)))
    assert (found.code, found.reason) == ("FAILED_PRECONDITION", "NO_SOURCE_GRAPH")
    assert name in found.message
    assert "Upload the model itself" in found.message
    assert desk.versions("brought-along") == [name]


def test_a_promotion_that_breaks_rules_names_each_and_changes_nothing(beasts: Beasts) -> None:
    desk = beasts.desk
    bound = release.MetricBound(metric="top1", slice="scene=night", min=0.99)
    rules = release.PromotionRules(require_parity=True, require_evaluation=True, dataset=beasts.scenes, bounds=[bound])
    channel = release.CreateChannelRequest(
        parent="models/beasts", channel_id="strict", channel=release.Channel(display_name="Strict", rules=rules)
    )
    name = desk.rpc.releases.CreateChannel(channel).name
    asked = release.PromoteModelVersionRequest(name=name, model_version=beasts.package)
    unnamed = refusal(desk.rpc.releases.PromoteModelVersion, asked)
    assert (unnamed.code, unnamed.reason) == ("FAILED_PRECONDITION", "PROMOTION_REFUSED")
    assert "none was named" in unnamed.message
    judged = desk.finish(desk.evaluate(beasts.package, dataset=beasts.scenes, slices=["scene"]))
    asked.evaluation_task = judged.name
    with pytest.raises(grpc.RpcError) as caught:
        desk.rpc.releases.PromoteModelVersion(asked)
    assert violations(caught.value) == [("METRIC", "top1")]
    assert "'top1' of scene=night has to be at least 0.99; it is 0.8333" in refusal_of(caught.value).message
    found = desk.rpc.releases.GetChannel(release.GetChannelRequest(name=name))
    assert (found.current_release, found.current_version) == ("", "")
    assert not desk.rpc.releases.ListReleases(release.ListReleasesRequest(parent=name)).releases
    assert not desk.keys("triton/beasts/strict/")
    desk.rpc.releases.DeleteChannel(release.DeleteChannelRequest(name=name))


def test_evaluations_on_different_data_are_not_compared(beasts: Beasts, tmp_path: Path) -> None:
    desk = beasts.desk
    judged = desk.finish(desk.evaluate(beasts.package, dataset=beasts.scenes, slices=["scene"]))
    file = desk.store(archive({"cat/0.png": png(0), "dog/1.png": png(1)}), tmp_path)
    other = desk.import_dataset("Two beasts", file)
    elsewhere = desk.finish(desk.evaluate(beasts.package, dataset=other.name))
    found = refused_comparison(desk, judged.name, elsewhere.name)
    assert found.code == "FAILED_PRECONDITION"
    assert other.name in found.message
    assert refused_comparison(desk, judged.name, "evaluationTasks/none").code == "NOT_FOUND"


def refused_comparison(desk: Desk, *tasks: str) -> Refusal:
    request = evaluator.CreateEvaluationComparisonRequest(
        evaluation_comparison=evaluator.EvaluationComparison(tasks=tasks)
    )
    return refusal(desk.rpc.evaluations.CreateEvaluationComparison, request)
