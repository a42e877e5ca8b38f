from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.parity.report import Verdict
from engines.runtimes.form import FormSpec
from engines.search.entry import Entry
from engines.search.truth import Thresholds, Truth
from engines.tensors import Arrays
from tests.unit.optimization.forms import ORT, prepared

BF16 = FormSpec("openvino", "BF16")


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    given = prepared(tmp_path_factory.mktemp("truth"))
    return Truth(given.source, given.samples, Thresholds(1e-4, 1.0))


def answers(truth: Truth, error: float) -> list[Arrays]:
    """Return the truth with an error relative to its largest value."""
    rng = np.random.default_rng(0)
    return [
        {"y": expected["y"] + error * expected["y"].max() * rng.choice([-1.0, 1.0], expected["y"].shape)}
        for expected in truth.expected
    ]


def test_the_truth_is_what_the_source_computes(truth: Truth) -> None:
    assert truth.parity(ORT, truth.expected).verdict is Verdict.PASS
    assert [len(one["y"]) for one in truth.expected] == [1, 2, 4]


def test_a_source_without_numbers_is_no_truth(truth: Truth) -> None:
    nothing = dataclasses.replace(truth.source, runner=lambda given: [given[0] * np.nan])
    with pytest.raises(EngineFailure, match=r"only NaN or infinity in output 'y', on all 7 samples") as caught:
        _ = Truth(nothing, truth.samples, truth.thresholds).expected
    assert caught.value.reason is FailureReason.PARITY_FAILED
    some = dataclasses.replace(truth.source, runner=lambda given: [np.where(given[0] > 0, given[0], np.nan)])
    assert Truth(some, truth.samples, truth.thresholds).expected


def test_fp32_is_held_to_the_threshold_itself(truth: Truth) -> None:
    assert truth.objection(ORT, truth.parity(ORT, answers(truth, 0.9e-4))) is None
    failure = truth.objection(ORT, truth.parity(ORT, answers(truth, 2e-4)))
    assert failure is not None
    assert failure.reason is FailureReason.PARITY_FAILED
    assert "relative error 0.0002" in failure.message
    assert "at most 0.0001" in failure.message


def test_the_baseline_may_come_close_to_the_threshold_and_not_fail(truth: Truth) -> None:
    near, far = (truth.parity(ORT, answers(truth, error)) for error in (2e-4, 0.5))
    assert truth.objection(ORT, near, is_baseline=True) is None
    assert truth.objection(ORT, far, is_baseline=True) is not None


def test_a_source_that_draws_random_numbers_is_told_so_where_nothing_holds(truth: Truth) -> None:
    rng = np.random.default_rng(0)
    drawn = dataclasses.replace(truth.source, runner=lambda given: [rng.standard_normal(given[0].shape)])
    random = Truth(drawn, truth.samples, truth.thresholds)
    failure = random.objection(ORT, random.parity(ORT, answers(truth, 0.0)), is_baseline=True)
    told = random.none_holds([Entry(ORT, failure=failure)])
    assert told.reason is FailureReason.PARITY_FAILED
    assert "draws random numbers" in told.message
    assert "dropout off" in told.suggested_fix


def test_decisions_that_tracing_fixed_are_named_where_nothing_holds(truth: Truth) -> None:
    graph = dataclasses.replace(truth.source.graph, constants=("net.py:12",))
    decided = Truth(dataclasses.replace(truth.source, make_graph=lambda: graph), truth.samples, truth.thresholds)
    failure = decided.objection(ORT, decided.parity(ORT, answers(truth, 0.5)), is_baseline=True)
    told = decided.none_holds([Entry(ORT, failure=failure)])
    assert "decisions about values into constants at net.py:12." in told.message
    assert "Write net.py:12 with tensor operators" in told.suggested_fix


@pytest.mark.parametrize(
    ("precision", "borne", "words"),
    [("BF16", 0.07, "relative error at most 0.05"), ("INT8", 0.02, "cosine at least 0.999")],
)
def test_lower_precision_is_held_to_its_own_tolerance(truth: Truth, precision: str, borne: float, words: str) -> None:
    spec = FormSpec("openvino", precision)
    assert truth.objection(spec, truth.parity(spec, answers(truth, borne))) is None
    failure = truth.objection(spec, truth.parity(spec, answers(truth, 0.5)))
    assert failure is not None
    assert words in failure.message


def test_a_judge_decides_for_lower_precision_but_not_for_what_is_lossless(truth: Truth) -> None:
    judged = Truth(truth.source, truth.samples, truth.thresholds, judge=lambda run: 1.0, source_accuracy=0.80)
    report = judged.parity(BF16, answers(judged, 0.5))
    assert judged.objection(BF16, report) is None
    assert report.waiver == "accuracy is judged instead: the metric may lose 1 points"
    assert not judged.parity(ORT, answers(judged, 0.5)).waiver
    assert judged.objection(ORT, judged.parity(ORT, answers(judged, 0.5))) is not None
    assert judged.accuracy_objection(BF16, 0.79) is None
    failure = judged.accuracy_objection(BF16, 0.78)
    assert failure is not None
    assert "loses 2.00 points" in failure.message
    assert judged.accuracy_objection(BF16, float("nan")) is not None
    assert truth.accuracy_objection(BF16, 0.1) is None  # nobody measured the source


def test_accuracy_that_nothing_bounds_decides_nothing(truth: Truth) -> None:
    told = Truth(truth.source, truth.samples, Thresholds(1e-4), judge=lambda run: 1.0, source_accuracy=0.80)
    assert told.accuracy_objection(BF16, 0.1) is None
    assert told.objection(BF16, told.parity(BF16, answers(told, 0.5))) is not None


def test_outputs_of_other_shapes_or_names_are_refused(truth: Truth) -> None:
    with pytest.raises(EngineFailure) as raised:
        truth.parity(ORT, [{"y": one["y"][:, :3]} for one in truth.expected])
    assert raised.value.reason is FailureReason.SHAPE_MISMATCH
    with pytest.raises(EngineFailure, match="no output 'y'; it gives z"):
        truth.parity(ORT, [{"z": one["y"]} for one in truth.expected])


def test_what_is_not_finite_fails_whatever_the_precision(truth: Truth, tmp_path: Path) -> None:
    broken = [{"y": np.full_like(one["y"], np.nan)} for one in truth.expected]
    for spec in (ORT, BF16):
        failure = truth.objection(spec, truth.parity(spec, broken))
        assert failure is not None
        assert "not finite" in failure.message
