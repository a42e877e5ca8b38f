"""The judge returns an evaluation's figure for any form of a model."""

from typing import Any

import numpy as np
import pytest

from engines.datasets.index import write_index
from engines.datasets.items import Box
from engines.datasets.selection import Selection
from engines.evaluation.judge import Judge
from engines.failures import EngineFailure, FailureReason
from engines.package.opening import open_component
from tests.unit.evaluation.kit import Desk, detector, scorer

KINDS = [("kind", ["car", "van", "bus"])]


def judge(desk: Desk, **values: Any) -> Judge:
    package = open_component(desk.folder / "package", None, 1)
    write_index(desk.folder / "dataset" / "index.parquet", desk.items)
    selection, method = Selection(desk.folder / "dataset"), package.manifest.method
    component, taxonomies = package.component_dict(), package.taxonomies()
    return Judge(selection, None, component, method, {}, taxonomies, **values)


def test_it_scores_forms_of_a_classifier(desk: Desk) -> None:
    desk.put_package(scorer([3]), "classification", KINDS)
    for number, kind in enumerate(["car", "van", "bus", "car", "van"]):
        desk.put_scores([9 if number != 4 else 0, 9, 0] if number % 3 else [9, 0, 0], classifications={"kind": kind})
    ours = judge(desk, batch_size=2)
    run = open_component(desk.folder / "package", None, 1).run
    assert ours.metric == "top1"
    assert ours.score(run) == desk.run().figure("top1")
    for path in (desk.folder / "dataset" / "content").iterdir():
        path.unlink()  # what was prepared once is kept
    assert ours.score(lambda feed: {"scores_0": np.zeros((len(feed["image"]), 3), np.float32)}) == 0.4
    with pytest.raises(EngineFailure, match=r"found: scores_0 float32 \(2, 4\)") as caught:
        ours.score(lambda feed: {"scores_0": np.zeros((len(feed["image"]), 4), np.float32)})
    assert caught.value.reason == FailureReason.OUTPUT_MISMATCH


def test_it_scores_detectors_by_any_figure(desk: Desk) -> None:
    desk.put_package(detector(), "detection", [("label", ["cat", "dog"])])
    desk.put_boxes([[10, 60, 30, 80, 250, 0]], [Box("cat", 10, 60, 20, 15), Box("dog", 90, 90, 20, 20)])
    run = open_component(desk.folder / "package", None, 1).run
    assert judge(desk, metric="ap50").score(run) == pytest.approx(0.5)
    assert judge(desk).score(run) == pytest.approx(0.5 * 6 / 10)  # the overlap is 0.75: six of COCO's ten thresholds
    with pytest.raises(EngineFailure, match=r"no figure 'top1' on this data. Its figures are: map, ap50"):
        judge(desk, metric="top1").score(run)


def test_data_that_cannot_be_evaluated_is_rejected(desk: Desk) -> None:
    desk.put_package(scorer([3]), "classification", KINDS)
    desk.put_scores([9, 0, 0], classifications={"color": "red"})
    run = open_component(desk.folder / "package", None, 1).run
    with pytest.raises(EngineFailure, match="No item of the data is annotated with a class of the model") as caught:
        judge(desk).score(run)
    assert caught.value.reason == FailureReason.INVALID_DATA
    desk.put_package(scorer([3]), "raw")
    with pytest.raises(EngineFailure, match="raw has no figures"):
        judge(desk)
    with pytest.raises(EngineFailure, match="no component 'tail'; it has net"):
        open_component(desk.folder / "package", "tail", 1)
