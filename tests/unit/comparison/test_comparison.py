"""Evaluations are compared on the samples they share, by differences whose intervals are paired."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

from engines.evaluation.comparison.report import ComparisonReport
from engines.evaluation.comparison.samples import exact_test
from engines.evaluation.predictions import PredictionsHeader, TaskPrediction
from engines.failures import EngineFailure, FailureReason
from tests.unit.comparison.evaluations import (
    CLASSES,
    Evaluations,
    boxes_header,
    classes_header,
    classified,
    detected,
    hit,
    random_classified,
    sample,
    truth,
)
from tests.unit.reports import examples


@pytest.fixture
def evaluations(tmp_path: Path) -> Evaluations:
    return Evaluations(tmp_path)


def delta(found: dict[str, Any], name: str, part: str = "", task: str = "evaluationTasks/1") -> dict[str, float]:
    deltas = [entry["delta"] for entry in found["deltas"] if entry["task"] == task]
    return next(entry for entry in deltas if (entry["name"], entry["slice"]) == (name, part))


def stored(evaluations: Evaluations) -> ComparisonReport:
    return ComparisonReport.model_validate_json((evaluations.folder / "out" / "comparison.json").read_text())


def test_differences_are_those_of_scikit_learn_and_their_intervals_those_of_paired_draws(
    evaluations: Evaluations,
) -> None:
    sides = [random_classified(400, accuracy, seed) for seed, accuracy in ((1, 0.9), (2, 0.8))]
    for rows in sides:
        evaluations.add(classes_header(), rows)
    found = evaluations.compare()
    truths = np.array([row.tasks[0].truth for row in sides[0]])
    before, after = (np.array([row.tasks[0].predicted for row in rows]) for rows in sides)
    night = np.arange(400) % 3 == 0
    for name, figure in (
        ("top1", accuracy_score),
        ("macro_f1", lambda true, said: f1_score(true, said, average="macro")),
        ("f1/owl", lambda true, said: f1_score(true, said, average=None)[CLASSES.index("owl")]),
    ):
        for part, chosen in (("", night | True), ("light=night", night)):
            expected = figure(truths[chosen], after[chosen]) - figure(truths[chosen], before[chosen])
            assert delta(found, name, part)["value"] == pytest.approx(expected, abs=1e-9)
    random, change = np.random.default_rng(5), (after == truths).astype(float) - (before == truths)
    drawn = [change[random.integers(0, 400, 400)].mean() for _ in range(4000)]
    top1 = delta(found, "top1")
    assert (top1["low"], top1["high"]) == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.012)
    assert found["samples"] == 400
    assert found["agreement"] == pytest.approx((before == after).mean())


def test_equal_evaluations_differ_in_nothing(evaluations: Evaluations) -> None:
    for _ in range(2):
        evaluations.add(classes_header(), random_classified(60, 0.8, 1))
    found = evaluations.compare()
    assert all(entry["delta"][end] == 0 for entry in found["deltas"] for end in ("value", "low", "high"))
    assert found["agreement"] == 1
    assert found["regressions"] == []


def test_the_same_seed_gives_the_same_bytes(evaluations: Evaluations) -> None:
    for seed in (1, 2):
        evaluations.add(classes_header(), random_classified(60, 0.8, seed))
    first = evaluations.compare(), stored(evaluations), (evaluations.folder / "out" / "comparison.html").read_bytes()
    again = evaluations.compare(), stored(evaluations), (evaluations.folder / "out" / "comparison.html").read_bytes()
    assert first == again


def test_only_shared_samples_count_whatever_their_order(evaluations: Evaluations) -> None:
    rows = [classified(number, 0, 0 if number < 8 else 1) for number in range(10)]
    others = [classified(number, 0, 0 if number < 6 else 1) for number in reversed(range(2, 14))]
    evaluations.add(classes_header(), rows)
    evaluations.add(classes_header(), others)
    found = evaluations.compare()
    assert found["samples"] == 8
    assert delta(found, "top1")["value"] == pytest.approx(-0.25)
    assert sorted(entry["sample"] for entry in found["regressions"]) == ["images/00006.jpg", "images/00007.jpg"]
    warnings = stored(evaluations).warnings
    assert [line[:7] for line in warnings] == ["2 of 10", "4 of 12"]


def test_a_sample_that_a_dataset_holds_twice_is_paired_twice(evaluations: Evaluations) -> None:
    for predicted in (0, 1):
        evaluations.add(classes_header(), [classified(4, 0, 0), classified(4, 0, predicted)])
    found = evaluations.compare()
    assert found["samples"] == 2
    assert delta(found, "top1")["value"] == -0.5


def test_several_evaluations_are_each_held_against_the_first(evaluations: Evaluations) -> None:
    for seed, accuracy in ((1, 0.8), (2, 0.7), (3, 0.95)):
        evaluations.add(classes_header(), random_classified(200, accuracy, seed))
    found = evaluations.compare()
    assert delta(found, "top1")["value"] < 0 < delta(found, "top1", task="evaluationTasks/2")["value"]
    report = stored(evaluations)
    assert report.agreement is not None
    assert report.agreement <= min(entry.agreement for entry in report.evaluations[1:] if entry.agreement is not None)
    assert set(report.regressed) == {"evaluationTasks/1", "evaluationTasks/2"}
    losses = [entry["loss"] for entry in found["regressions"]]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) <= 100


def test_regressions_are_right_before_and_wrong_now_those_furthest_off_first(evaluations: Evaluations) -> None:
    evaluations.add(classes_header(), [classified(n, 0, 0) for n in range(150)] + [classified(150, 0, 2)])
    after = [classified(number, 0, 1, rank=1 + number % 5) for number in range(150)]
    evaluations.add(classes_header(), [*after, classified(150, 0, 1)])
    found = evaluations.compare()
    assert len(found["regressions"]) == 100
    assert {entry["loss"] for entry in found["regressions"]} == {1.0}
    assert found["regressions"][0]["sample"] == "images/00004.jpg"
    assert "images/00150.jpg" not in [entry["sample"] for entry in found["regressions"]]
    report = stored(evaluations)
    assert report.regressed == {"evaluationTasks/1": 150}
    assert report.regressions[0].before[0].predicted == "cat"
    assert report.regressions[0].after[0].predicted == "dog"
    assert report.regressions[0].attributes == {"light": "day"}


def test_a_regression_has_the_picture_that_a_report_has_of_it(evaluations: Evaluations) -> None:
    report = examples.classification(CLASSES, pictures=2)
    evaluations.add(classes_header(), [classified(n, 0, 0) for n in range(4)], report)
    evaluations.add(classes_header(), [classified(n, 0, 1) for n in range(4)], report)
    evaluations.compare()
    pictures = {entry.sample: entry.image_png for entry in stored(evaluations).regressions}
    assert pictures["images/00001.jpg"] == examples.picture(1)
    assert not pictures["images/00003.jpg"]


def test_several_tasks_have_figures_of_each_and_of_all(evaluations: Evaluations) -> None:
    header = classes_header(classes={"color": ("red", "blue"), "size": ("small", "large")})

    def rows(wrong: int) -> list[Any]:
        found = []
        for number in range(10):
            size = TaskPrediction("size", 1, 0 if number < wrong else 1, 0.8, 0.2, int(number < wrong), 0.3)
            color = TaskPrediction("color", 0, 0, 0.8, 0.8, 0, 0.2)
            found.append(sample(number, tasks=(color, size), loss=0.3, correct=number >= wrong))
        return found

    evaluations.add(header, rows(0))
    evaluations.add(header, rows(4))
    found = evaluations.compare()
    assert delta(found, "top1/size")["value"] == pytest.approx(-0.4)
    assert delta(found, "top1/color")["value"] == 0
    assert delta(found, "top1")["value"] == pytest.approx(-0.2)
    assert {entry["loss"] for entry in found["regressions"]} == {0.5}
    assert found["agreement"] == pytest.approx(0.6)


def test_samples_that_nobody_annotated_have_an_agreement_and_nothing_else(evaluations: Evaluations) -> None:
    for predicted in (0, 1):
        evaluations.add(classes_header(), [classified(0, -1, 0), classified(1, -1, predicted)])
    found = evaluations.compare()
    assert found["deltas"] == found["regressions"] == []
    assert found["agreement"] == 0.5
    assert "Nothing could be judged" in (evaluations.folder / "out" / "comparison.html").read_text()


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (7, 2), (40, 61), (5, 5)])
def test_the_exact_test_is_that_of_scipy(lost: int, won: int) -> None:
    before = np.array([1.0] * lost + [0.0] * won + [1.0, np.nan])
    after = np.array([0.0] * lost + [1.0] * won + [1.0, 1.0])
    found = exact_test(before, after)
    assert found is not None
    assert (found.lost, found.won) == (lost, won)
    expected = binomtest(min(lost, won), lost + won).pvalue if lost + won else 1.0
    assert found.p_value == pytest.approx(expected)


def test_detectors_are_compared_by_coco_figures(evaluations: Evaluations) -> None:
    def rows(hits: int) -> list[Any]:
        found = []
        for number in range(12):
            boxes = [truth(0, 10, 10), truth(1, 200, 100)]
            said = [hit(0, 10, 10), hit(1, 200, 100)] if number < hits else [hit(0, 10, 10)]
            found.append(detected(number, boxes, said, loss=0.2 if number < hits else 1.1))
        return found

    evaluations.add(boxes_header(), rows(12))
    evaluations.add(boxes_header(), rows(6)[::-1])
    found = evaluations.compare()
    assert delta(found, "ap/car")["value"] == 0
    assert delta(found, "ap/bus")["value"] == pytest.approx(51 / 101 - 1)
    assert delta(found, "map")["value"] == pytest.approx((51 / 101 - 1) / 2)
    assert delta(found, "recall50", "light=night")["value"] == pytest.approx(-0.25)
    assert found["agreement"] == 0.5
    assert len(found["regressions"]) == 6
    assert found["regressions"][0]["loss"] == pytest.approx(0.45)
    assert stored(evaluations).regressions[0].boxes_after == ("car 0.90",)


@pytest.mark.parametrize(
    ("said", "agrees"),
    [
        ([hit(0, 10, 10)], True),
        ([hit(0, 18, 10)], True),
        ([hit(0, 10, 10, score=0.3)], True),
        ([hit(0, 10, 10, score=0.2)], False),
        ([hit(0, 40, 40)], False),
        ([hit(1, 10, 10)], False),
        ([hit(0, 10, 10), hit(0, 100, 10)], False),
        ([hit(0, 10, 10), hit(0, 100, 10, score=0.4)], True),
        ([], False),
    ],
)
def test_detectors_agree_where_every_sure_box_has_a_partner(
    said: list[Any], agrees: bool, evaluations: Evaluations
) -> None:
    evaluations.add(boxes_header(), [detected(0, [truth(0, 10, 10)], [hit(0, 10, 10)])])
    evaluations.add(boxes_header(), [detected(0, [truth(0, 10, 10)], said)])
    assert evaluations.compare()["agreement"] == float(agrees)


def test_embeddings_are_compared_by_rank_and_by_angle(evaluations: Evaluations) -> None:
    header = PredictionsHeader(method="embedding", classes={}, main_metric="precision_at_1")
    vectors = [(1.0, 0.0), (0.0, 2.0), (1.0, 1.0)]
    for ranks in ((1, 1, 2), (1, 4, 2)):
        rows = [
            sample(n, vector=vector if ranks[1] == 1 or n else (1.0, 1.0), loss=1 - 1 / rank, correct=rank == 1)
            for n, (vector, rank) in enumerate(zip(vectors, ranks, strict=True))
        ]
        evaluations.add(header, rows)
    found = evaluations.compare()
    assert delta(found, "mrr")["value"] == pytest.approx(-0.25)
    assert delta(found, "precision_at_1")["value"] == pytest.approx(-1 / 3)
    assert found["agreement"] == pytest.approx((np.sqrt(0.5) + 2) / 3)
    assert [(entry["sample"], entry["loss"]) for entry in found["regressions"]] == [("images/00001.jpg", 0.75)]


def refused(evaluations: Evaluations, reason: FailureReason) -> str:
    with pytest.raises(EngineFailure) as caught:
        evaluations.compare()
    assert caught.value.reason is reason
    return caught.value.message


def test_what_does_not_belong_together_is_refused_with_what_differs(tmp_path: Path) -> None:
    row = [classified(0, 0, 0)]
    cases: list[tuple[PredictionsHeader, list[Any], str]] = [
        (boxes_header(), [detected(0, [], [])], "the method classification, but 'evaluationTasks/1' with yolo"),
        (classes_header(classes={"kind": CLASSES}), row, "has the tasks animal, but 'evaluationTasks/1' has kind"),
        (classes_header(classes={"animal": (*CLASSES, "yak")}), row, "'evaluationTasks/1' has the additional 'yak'"),
        (classes_header(classes={"animal": CLASSES[1:]}), row, "'evaluationTasks/1' lacks 'cat'"),
        (classes_header(classes={"animal": CLASSES[::-1]}), row, "number 0 is 'cat' in 'evaluationTasks/0' and 'wolf'"),
        (classes_header(), [classified(9, 0, 0)], "share no samples: 'evaluationTasks/0' has 1, such as 'images/00000"),
        (classes_header(), [], "'evaluationTasks/1' has 0."),
    ]
    for number, (header, rows, words) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        pair = Evaluations(tmp_path / str(number))
        pair.add(classes_header(), row)
        pair.add(header, rows)
        assert words in refused(pair, FailureReason.INVALID_SPEC)


def test_one_evaluation_or_outputs_that_nobody_judged_are_refused(evaluations: Evaluations) -> None:
    header = PredictionsHeader(method="raw", classes={})
    evaluations.add(header, [sample(0)])
    assert "two evaluations or more" in refused(evaluations, FailureReason.INVALID_SPEC)
    evaluations.add(header, [sample(0)])
    assert "raw have no figures" in refused(evaluations, FailureReason.INVALID_SPEC)


@pytest.mark.parametrize("file", ["predictions.parquet", "report.json"])
def test_files_that_are_something_else_are_refused_by_name(file: str, evaluations: Evaluations) -> None:
    for _ in range(2):
        evaluations.add(classes_header(), [classified(0, 0, 0)])
    (evaluations.folder / "1" / file).write_text("{}")
    assert "is not" in refused(evaluations, FailureReason.INVALID_DATA)


def test_the_answer_is_json_and_bounded(evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (1, 2):
        evaluations.add(classes_header(), random_classified(50, 0.7, seed))
    monkeypatch.setattr("engines.api.comparison.MOST_DELTAS", 10)
    found = evaluations.compare()
    json.dumps(found)
    names = [entry["delta"]["name"] for entry in found["deltas"]]
    assert len(names) == 10
    assert names[0] == "top1"
    assert not [name for name in names if name.startswith("f1/")]
    assert len(stored(evaluations).deltas) > 10
