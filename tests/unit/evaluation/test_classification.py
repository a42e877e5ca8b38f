"""Classifiers: figures equal scikit-learn's, intervals include them, slices are evaluated on their own."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score

from engines.datasets.items import Item
from engines.evaluation.classification import ClassificationCollector
from engines.evaluation.feeder import Sample
from engines.evaluation.groups import Group
from engines.evaluation.truth import ClassTruth
from engines.failures import EngineFailure, FailureReason
from tests.unit.evaluation.kit import Desk, Ran, scorer

COLORS = [f"c{number}" for number in range(8)]
KINDS = ["car", "van", "bus"]


def fill(desk: Desk, count: int, seed: int = 0) -> tuple[list[dict[str, int]], list[dict[str, Any]]]:
    """Images with random scores, right more often than not; returns truths and scores by task."""
    random = np.random.default_rng(seed)
    truths, scores = [], []
    for number in range(count):
        truth = {"color": int(random.integers(0, 7)), "kind": int(random.integers(0, 3))}
        pixels = {"color": random.integers(0, 200, 8), "kind": random.integers(0, 200, 3)}
        for task, values in pixels.items():
            values[truth[task]] += random.integers(0, 55)
        named = {"color": COLORS[truth["color"]], "kind": KINDS[truth["kind"]]}
        attributes = {"scene": "night" if number % 3 else "day"}
        desk.put_scores([*pixels["color"], *pixels["kind"]], classifications=named, attributes=attributes)
        truths.append(truth)
        scores.append(pixels)
    return truths, scores


def package(desk: Desk, **values: Any) -> None:
    desk.put_package(scorer([8, 3]), "multi_classification", [("color", COLORS), ("kind", KINDS)], **values)


def check(ran: Ran, part: str, task: str, *, truth: Any, scores: Any) -> None:
    names = COLORS if task == "color" else KINDS
    predicted = scores.argmax(1)
    assert ran.figure(f"top1/{task}", part) == pytest.approx(accuracy_score(truth, predicted), abs=1e-6)
    if len(names) > 5:
        labels = range(len(names))
        expected = top_k_accuracy_score(truth, scores + np.linspace(1e-6, 0, len(names)), k=5, labels=labels)
        assert ran.figure(f"top5/{task}", part) == pytest.approx(expected, abs=1e-6)
    for average in ("macro", "weighted"):
        figures = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        for kind, value in zip(("precision", "recall", "f1"), figures, strict=False):
            assert ran.figure(f"{average}_{kind}/{task}", part) == pytest.approx(value, abs=1e-6)
    each = precision_recall_fscore_support(truth, predicted, labels=range(len(names)), zero_division=0)
    for number, name in enumerate(names):
        if number in truth:
            for kind, values in zip(("precision", "recall", "f1"), each, strict=False):
                assert ran.figure(f"{kind}/{task}:{name}", part) == pytest.approx(values[number], abs=1e-6)


def test_figures_are_those_of_scikit_learn_in_every_slice(desk: Desk) -> None:
    truths, scores = fill(desk, 120)
    package(desk)
    ran = desk.run(slices=["scene"], batch_size=4, seed="3")
    night = np.arange(120) % 3 > 0
    for task in ("color", "kind"):
        truth = np.array([entry[task] for entry in truths])
        values = np.array([entry[task] for entry in scores], float)
        for part, chosen in (("", night | ~night), ("scene=night", night), ("scene=day", ~night)):
            check(ran, part, task, truth=truth[chosen], scores=values[chosen])
    mean = (ran.figure("top1/color") + ran.figure("top1/kind")) / 2
    assert ran.figure("top1") == pytest.approx(mean)
    assert [(entry.name, entry.samples) for entry in ran.report.slices] == [("scene=day", 40), ("scene=night", 80)]
    assert ran.report.main_metric == ran.outcome["result"]["main_metric"] == "top1"
    table = ran.report.classification[0]
    assert np.trace(np.array(table.confusion.counts)) == round(table.top1 * 120)
    assert any("1 class of the task 'color' has no sample: c7" in line for line in ran.report.warnings)


def test_intervals_are_those_of_the_binomial_and_the_seed_repeats_them(desk: Desk) -> None:
    fill(desk, 150)
    package(desk)
    ran, again, other = desk.run(seed=1), desk.run(seed=1), desk.run(seed=2)
    low, value, high = ran.interval("top1/color")
    spread = 1.96 * np.sqrt(value * (1 - value) / 150)
    assert low == pytest.approx(value - spread, abs=0.03)
    assert high == pytest.approx(value + spread, abs=0.03)
    assert ran.report.metrics == again.report.metrics
    assert ran.report.metrics != other.report.metrics
    assert all(entry.low <= entry.value <= entry.high for entry in ran.report.metrics)


def test_rows_and_worst_samples_describe_the_answers(desk: Desk) -> None:
    package(desk)
    right, wrong = [0] * 8 + [200, 0, 0], [0, 0, 0, 0, 0, 0, 0, 250, 0, 0, 200]
    for scores in (right, wrong):
        desk.put_scores(scores, classifications={"kind": "car"})
    desk.put_scores(right)
    ran = desk.run(loops=3, batch_size=2)
    assert [(row.correct, len(row.tasks)) for row in ran.rows] == [(True, 2), (False, 2), (None, 2)]
    kind = ran.rows[1].tasks[1]
    assert (kind.task, kind.truth, kind.predicted, kind.rank, kind.correct) == ("kind", 0, 2, 1, False)
    assert kind.score == pytest.approx(1, abs=1e-6)
    assert kind.loss == pytest.approx(20, abs=1e-3)
    worst = ran.report.worst[0]
    assert (worst.number, worst.answers[1].truth, worst.answers[1].predicted) == (1, "car", "bus")
    assert worst.answers[0].correct is None
    assert worst.image_png.startswith("iVBOR")
    assert ran.figure("top1") == 0.5
    assert "The task 'color' is not evaluated, because the data only has classes for kind." in ran.report.warnings
    assert "1 sample has no class for the task 'kind' and does not count for it." in ran.report.warnings
    times = ran.report.times
    assert (times.calls, times.batch_size, times.loops, sum(times.latency_histogram.counts)) == (6, 2, 3, 6)
    assert ran.outcome["result"]["times"]["latency"]["form"] == "onnxruntime"


def test_a_single_task_takes_the_only_key_and_counts_what_it_does_not_know(desk: Desk) -> None:
    desk.put_package(scorer([3]), "classification", [("kind", KINDS)])
    for value in ("car", "tram", "tram", "van"):
        desk.put_scores([9, 0, 0], classifications={"class": value})
    ran = desk.run()
    assert ran.figure("top1") == 0.5
    assert ran.report.classification[0].samples == 2
    assert any(
        "2 samples of the task 'kind' were left out" in line and "tram (2)" in line for line in ran.report.warnings
    )
    assert not [entry for entry in ran.report.metrics if entry.name.startswith("top5")]


def test_without_taxonomy_classes_are_numbers(desk: Desk) -> None:
    desk.put_package(scorer([3]), "classification")
    desk.put_scores([0, 0, 9], classifications={"digit": "2"})
    assert desk.run().figure("top1") == 1.0


@pytest.mark.parametrize(
    ("scores", "chances"),
    [([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]), ([0.0, np.log(2), 0.0], [0.25, 0.5, 0.25])],
    ids=["probabilities", "logits"],
)
def test_scores_may_be_logits_or_probabilities(desk: Desk, scores: list[float], chances: list[float]) -> None:
    from engines.evaluation.classification import answer, probabilities

    np.testing.assert_allclose(probabilities(np.array(scores)), chances)
    assert answer("t", np.array(scores), 0).loss == pytest.approx(np.log(4))


def test_only_the_requested_tasks_are_evaluated(desk: Desk) -> None:
    fill(desk, 10)
    package(desk)
    ran = desk.run(class_tasks=["kind"])
    assert [entry.task for entry in ran.report.classification] == ["kind"]
    assert {task.task for row in ran.rows for task in row.tasks} == {"kind"}
    with pytest.raises(EngineFailure, match=r"no classification task 'size'. Its tasks are: color, kind") as caught:
        desk.run(class_tasks=["size"])
    assert caught.value.reason == FailureReason.INVALID_SPEC


def test_scores_that_are_not_finite_are_wrong_and_counted(desk: Desk) -> None:
    model = scorer([3], scale=np.inf)
    desk.put_package(model, "classification", [("kind", KINDS)])
    for name in KINDS:
        desk.put_scores([1, 1, 1], classifications={"kind": name})
    desk.put_scores([1, 0, 2], classifications={"kind": "car"})
    ran = desk.run()
    assert ran.figure("top1") == 0.0
    assert ran.report.classification[0].confusion.not_predicted == 4
    assert "4 of 4 samples have outputs that are not finite, which predict nothing." in ran.report.warnings


def test_scores_that_are_not_finite_are_among_no_best_five() -> None:
    items = [Item("a.png", "0" * 64, 1, 2, 2, {"color": "c0", "kind": "car"})]
    taxonomies = [{"task": "color", "classes": COLORS}, {"task": "kind", "classes": KINDS}]
    collector = ClassificationCollector(ClassTruth(items, taxonomies, ()))
    scores = {"color": np.arange(8, 0, -1.0), "kind": np.array([np.nan, 1, 0])}
    collector.add(Sample(0, items[0], None), {"tasks": scores}, finite=False)
    found = {entry.name: entry.value for entry in collector.metrics([Group("", np.arange(1))], 0, 0)}
    assert (found["top1"], found["top5"], found["top5/color"]) == (0.5, 0.5, 1)
