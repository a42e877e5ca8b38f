"""The metrics against their plain formulas, on arbitrary arrays, split into feeds arbitrarily."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lathe.type.v1.measurement_pb2 import SAMPLE_SOURCE_USER

from engines.failures import EngineFailure, FailureReason
from engines.parity.comparison import OutputComparison, Parity
from engines.parity.report import OutputParity, Verdict, json_number, tolerance_of, worst
from engines.spec.tolerances import TOLERANCES, Measure, Tolerance
from engines.tensors.errors import tensor_error
from engines.tensors.samples import Samples, SampleSource

FLOATS = st.floats(-1e6, 1e6, width=32).map(lambda value: 0.0 if abs(value) < 1e-20 else value)
PAIRS = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=FLOATS), hnp.arrays(np.float32, shape, elements=FLOATS)
    )
)


def compare(
    source: np.ndarray, target: np.ndarray, threshold: float = 1e-4, *, classifier: bool = False
) -> OutputParity:
    comparison = OutputComparison("y", classifier)
    comparison.add(source, target)
    return comparison.result(Tolerance(Measure.MAX_REL_ERROR, threshold, 10 * threshold, unequal=0))


@given(PAIRS)
def test_metrics_equal_their_formulas(pair: tuple[np.ndarray, np.ndarray]) -> None:
    source, target = pair
    s, t = source.astype(np.float64).ravel(), target.astype(np.float64).ravel()
    result = compare(source, target)
    error = np.abs(s - t).max()
    assert result.max_abs_error == error
    if np.abs(s).max():
        assert result.max_rel_error == pytest.approx(error / np.abs(s).max())
    if np.linalg.norm(s) and np.linalg.norm(t):
        assert result.cosine == pytest.approx(s @ t / (np.linalg.norm(s) * np.linalg.norm(t)), abs=1e-12)
    if error and np.abs(s).max():
        expected = 10 * np.log10((s**2).sum() / ((s - t) ** 2).sum())
        assert result.sqnr_db == pytest.approx(max(-200, min(200, expected)), abs=1e-9)


@given(PAIRS)
def test_error_and_cosine_are_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    source, target = pair
    there, back = compare(source, target), compare(target, source)
    assert there.max_abs_error == back.max_abs_error
    assert there.cosine == pytest.approx(back.cosine, abs=1e-12)


@given(PAIRS)
def test_equal_arrays_pass_at_any_threshold(pair: tuple[np.ndarray, np.ndarray]) -> None:
    result = compare(pair[0], pair[0].copy(), 0.0)
    assert result.verdict is Verdict.PASS
    assert result.max_rel_error == 0
    assert result.sqnr_db == 200
    assert result.cosine == pytest.approx(1)


@given(PAIRS, st.data())
def test_feeds_add_up_to_the_whole(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    source, target = pair
    cut = data.draw(st.integers(0, len(source)))
    parts = OutputComparison("y", classifier=True)
    parts.add(source[:cut], target[:cut])
    parts.add(source[cut:], target[cut:])
    whole = compare(source, target, classifier=True)
    result = parts.result(TOLERANCES["FP32"])
    assert result.max_rel_error == whole.max_rel_error
    assert result.cosine == pytest.approx(whole.cosine, abs=1e-12)
    assert result.top1_agreement == whole.top1_agreement
    assert result.verdict is whole.verdict


def test_zeros_are_equal_and_any_error_on_zeros_is_infinite() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert compare(zeros, zeros).cosine == 1
    wrong = compare(zeros, zeros + 1)
    assert wrong.max_rel_error == math.inf
    assert wrong.sqnr_db == -200
    assert wrong.cosine == 0
    assert wrong.verdict is Verdict.FAIL
    assert compare(zeros + 1, zeros).sqnr_db == 0


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(0.9e-3, Verdict.PASS), (2e-3, Verdict.WARN), (9e-3, Verdict.WARN), (11e-3, Verdict.FAIL)],
)
def test_verdicts_at_the_threshold_and_at_the_limit(error: float, verdict: Verdict) -> None:
    source = np.array([1.0, -0.5])
    assert compare(source, source + np.array([0, error]), 1e-3).verdict is verdict


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_on_one_side_fails(value: float) -> None:
    whole = np.array([1.0, 2.0, 3.0])
    broken = np.array([1.0, value, 3.0])
    for result in (compare(whole, broken), compare(broken, whole)):
        assert result.verdict is Verdict.FAIL
        assert result.max_rel_error == math.inf
        assert "1 elements are not finite on one side" in result.remark


def test_the_same_infinity_on_both_sides_is_left_out() -> None:
    mask = np.array([1.0, -np.inf, np.nan])
    result = compare(mask, mask.copy())
    assert result.verdict is Verdict.PASS
    assert result.max_abs_error == 0
    assert compare(np.array([1.0, np.inf]), np.array([1.0, -np.inf])).verdict is Verdict.FAIL


def test_a_source_without_a_finite_element_proves_nothing() -> None:
    result = compare(np.full(3, np.nan), np.full(3, np.nan))
    assert result.verdict is Verdict.FAIL
    assert "the source itself returns no finite element" in result.remark


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_and_booleans_are_equal_or_fail(dtype: str) -> None:
    source = np.array([0, 1, 1]).astype(dtype)
    assert compare(source, source.copy(), 0.0).verdict is Verdict.PASS
    result = compare(source, np.array([0, 1, 0]).astype(dtype), 1.0)
    assert result.verdict is Verdict.FAIL
    assert "1 of 3 integers, booleans or texts differ" in result.remark


def test_integers_that_float64_cannot_tell_apart_differ() -> None:
    source = np.array([2**60], np.int64)
    assert compare(source, source + 1, 1.0).verdict is Verdict.FAIL


def test_top1_counts_places_and_takes_ties_as_agreement() -> None:
    source = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.9]])
    target = np.array([[0.0, 2.0], [0.0, 1.0], [3.0, 3.0], [1.0, 0.0]])
    assert compare(source, target, classifier=True).top1_agreement == 0.75
    assert compare(source, target).top1_agreement is None
    assert "top1_agreement" not in compare(source, target).to_dict()


def test_another_shape_is_a_failure_that_names_the_output() -> None:
    with pytest.raises(EngineFailure) as caught:
        compare(np.zeros((2, 3)), np.zeros((1, 3)))
    assert caught.value.reason is FailureReason.SHAPE_MISMATCH
    assert "'y' has the shape 1*3; in the source it has 2*3" in caught.value.message
    assert tensor_error(np.zeros(2), np.zeros(3)) == math.inf


def test_a_report_carries_the_worst_verdict_in_protobuf_json() -> None:
    parity = Parity(("a", "b"), classifier=False)
    one = np.ones((1, 2), np.float32)
    parity.add({"a": one, "b": one}, {"a": one, "b": one * np.float32(np.nan)})
    report = parity.report(TOLERANCES["FP32"], Samples((), SampleSource.GENERATED, 7, (1, 2), 3, ("noise",))).to_dict()
    assert report["verdict"] == "FAIL"
    assert report["outputs"][1]["max_rel_error"] == "Infinity"
    assert (report["samples"], report["seed"], report["batch_sizes"]) == (3, 7, [1, 2])
    assert (report["measure"], report["threshold"], report["limit"]) == ("MAX_REL_ERROR", 1e-4, 1e-3)
    assert report["sample_values"] == ["noise"]
    assert report["outputs"][1]["remark"] == "2 elements are not finite on one side only"
    assert tolerance_of(report) == replace(TOLERANCES["FP32"], unequal=0.1)
    assert worst([]) is Verdict.PASS
    assert json_number(math.nan) == "NaN"
    assert json_number(-math.inf) == "-Infinity"


def test_the_report_is_the_json_of_its_proto_message() -> None:
    from lathe.type.v1.measurement_pb2 import ParityMeasure, ParityReport

    from services.platform.words import from_values, word

    parity = Parity(("a",), classifier=True)
    parity.add({"a": np.eye(2)}, {"a": np.where(np.eye(2), np.inf, 0)})
    message = from_values(
        parity.report(TOLERANCES["INT8"], Samples((), SampleSource.USER, 0, (2,), 2)).to_dict(), ParityReport()
    )
    assert message.outputs[0].max_abs_error == math.inf
    assert message.sample_source == SAMPLE_SOURCE_USER
    assert word(ParityMeasure, message.measure) == "COSINE"


def test_texts_are_equal_or_fail() -> None:
    comparison = OutputComparison("text")
    assert comparison.add(np.array(["a", "bb"], object), np.array(["a", "bb"])) == 0
    assert comparison.result(TOLERANCES["FP32"]).verdict is Verdict.PASS
    assert comparison.add(np.array(["a"]), np.array(["b"], object)) == np.inf
    assert comparison.result(TOLERANCES["FP32"]).verdict is Verdict.FAIL


def test_outputs_without_elements_are_equal() -> None:
    comparison = OutputComparison("empty", classifier=True)
    assert comparison.add(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert comparison.result(TOLERANCES["FP32"]).verdict is Verdict.PASS
    assert comparison.result(TOLERANCES["INT8"]).verdict is Verdict.PASS


def test_bytes_of_utf8_are_the_text_that_they_stand_for() -> None:
    source = np.array(["größe".encode(), b"x"], dtype=object)
    assert compare(source, np.array(["größe", "x"], dtype=object)).verdict is Verdict.PASS
    assert compare(source, np.array(["grösse", "x"], dtype=object)).verdict is Verdict.FAIL
