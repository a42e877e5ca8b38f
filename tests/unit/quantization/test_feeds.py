"""Which samples calibrate, which judge, and in which batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.quantization.feeds import MOST_HELD_OUT, batch_bounds, calibration_batch, chosen_and_rest, hold_out
from engines.tensors.signature import TensorSpec

FIXED = TensorSpec.fixed("x", "float32", (2, 3))
DYNAMIC = TensorSpec.fixed("y", "float32", (1, 3)).batched(8)


def test_the_graph_bounds_the_batch() -> None:
    assert batch_bounds([DYNAMIC]) == (1, 8)
    assert batch_bounds([FIXED]) == (2, 2)
    assert batch_bounds([FIXED, DYNAMIC]) == (2, 2)
    assert batch_bounds([TensorSpec.fixed("s", "float32", ())]) == (1, 1)
    assert calibration_batch([DYNAMIC], 0, 5) == 1
    assert calibration_batch([FIXED], 0, 5) == 2


@pytest.mark.parametrize(
    ("specs", "asked", "available", "reason", "words"),
    [
        ([DYNAMIC], 9, 100, FailureReason.INVALID_SPEC, "takes batches of 1 to 8"),
        ([FIXED], 1, 100, FailureReason.INVALID_SPEC, "takes batches of 2 alone"),
        ([DYNAMIC], 8, 7, FailureReason.INVALID_DATA, "7 samples, fewer than one batch of 8"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(
    specs: list[TensorSpec], asked: int, available: int, reason: FailureReason, words: str
) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        calibration_batch(specs, asked, available)
    assert caught.value.reason is reason


@given(st.integers(1, 300), st.integers(1, 200), st.integers(0, 99))
def test_samples_calibrate_or_are_left(available: int, wanted: int, seed: int) -> None:
    chosen, rest = chosen_and_rest(available, wanted, seed)
    assert len(chosen) == min(available, wanted)
    assert not set(chosen) & set(rest)
    assert set(chosen) | set(rest) <= set(range(available))
    assert (chosen, rest) == chosen_and_rest(available, wanted, seed)


@given(st.integers(1, 300), st.integers(1, 16))
def test_holding_out_leaves_a_batch(count: int, batch: int) -> None:
    kept, held = hold_out(list(range(count)), batch)
    assert sorted([*kept, *held]) == list(range(count))
    assert len(held) <= MOST_HELD_OUT
    assert len(kept) >= min(batch, count)
    assert held or count < 5 or count <= batch
