"""Evaluations are compared on their shared samples, by differences with paired intervals."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

from engines.evaluation.comparison.samples import exact_test
from engines.evaluation.predictions import TaskPrediction
from tests.unit.comparison.evaluations import (
    CLASSES,
    Evaluations,
    classes_header,
    classified,
    delta,
    random_classified,
    sample,
    stored,
)
from tests.unit.reports import examples


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


def test_equal_evaluations_have_no_differences(evaluations: Evaluations) -> None:
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


def test_several_evaluations_are_each_compared_with_the_first(evaluations: Evaluations) -> None:
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


def test_regressions_were_right_and_are_wrong_the_worst_first(evaluations: Evaluations) -> None:
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


def test_samples_without_annotations_only_have_an_agreement(evaluations: Evaluations) -> None:
    for predicted in (0, 1):
        evaluations.add(classes_header(), [classified(0, -1, 0), classified(1, -1, predicted)])
    found = evaluations.compare()
    assert found["deltas"] == found["regressions"] == []
    assert found["agreement"] == 0.5
    assert "Nothing could be evaluated" in (evaluations.folder / "out" / "comparison.html").read_text()


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (7, 2), (40, 61), (5, 5)])
def test_the_exact_test_is_that_of_scipy(lost: int, won: int) -> None:
    before = np.array([1.0] * lost + [0.0] * won + [1.0, np.nan])
    after = np.array([0.0] * lost + [1.0] * won + [1.0, 1.0])
    found = exact_test(before, after)
    assert found is not None
    assert (found.lost, found.won) == (lost, won)
    expected = binomtest(min(lost, won), lost + won).pvalue if lost + won else 1.0
    assert found.p_value == pytest.approx(expected)


def test_the_result_is_json_and_limited(evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch) -> None:
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
