"""The table of tolerances: verdicts in each precision, and the effect of a user's threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.parity.comparison import OutputComparison
from engines.parity.report import Verdict
from engines.spec.tolerances import TOLERANCES


@pytest.mark.parametrize(
    ("precision", "error", "verdict"),
    [
        ("FP32", 0.9e-4, Verdict.PASS),
        ("FP32", 0.9e-3, Verdict.WARN),
        ("FP32", 1.1e-3, Verdict.FAIL),
        ("FP16", 0.9e-2, Verdict.PASS),
        ("FP16", 4.9e-2, Verdict.WARN),
        ("FP16", 5.1e-2, Verdict.FAIL),
        ("BF16", 4.9e-2, Verdict.PASS),
        ("BF16", 9.9e-2, Verdict.WARN),
        ("BF16", 0.47, Verdict.FAIL),
    ],
)
def test_a_relative_error_is_bounded_in_each_precision(precision: str, error: float, verdict: Verdict) -> None:
    comparison = OutputComparison("y")
    comparison.add(np.array([1.0, 0.5]), np.array([1.0, 0.5 + error]))
    assert comparison.result(TOLERANCES[precision]).verdict is verdict


@pytest.mark.parametrize("precision", sorted(TOLERANCES))
@given(threshold=st.floats(1e-12, 1.0))
def test_a_users_threshold_never_raises_the_limit_beyond_the_precisions_own(precision: str, threshold: float) -> None:
    own = TOLERANCES[precision]
    found = own.at(threshold)
    assert found.threshold == threshold
    assert found.limit >= threshold
    assert found.limit <= max(own.limit, threshold)
    assert found.limit <= max(threshold, threshold * own.limit / own.threshold * (1 + 1e-12))


def test_without_a_threshold_the_precisions_own_applies() -> None:
    assert TOLERANCES["FP16"].at(0.0) == TOLERANCES["FP16"]


def test_only_reduced_precisions_may_flip_a_class() -> None:
    comparison = OutputComparison("best")
    source = np.arange(100) % 7 + 1
    comparison.add(source, np.where(np.arange(100) < 2, source + 1, source))
    verdicts = {precision: comparison.result(own).verdict for precision, own in TOLERANCES.items()}
    assert verdicts.pop("FP32") is Verdict.FAIL
    assert set(verdicts.values()) == {Verdict.WARN}
