"""A user's samples for inputs whose batch is not the first axis, for scalars, and for inputs with a given value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure
from engines.tensors.samples import SampleRange, generated
from engines.tensors.signature import NO_BATCH, TensorSpec
from engines.tensors.user_samples import from_npz, shapes_in

SOUND = TensorSpec.fixed("sound", "float32", (1, 6)).batched(4)
STATE = replace(TensorSpec.fixed("state", "float32", (2, 1, 3)), batch_axis=1).batched(4)
RATE = TensorSpec.fixed("rate", "int64", ())
TABLE = replace(TensorSpec.fixed("table", "float32", (2, 3)), batch_axis=NO_BATCH)
VALUES = {"rate": SampleRange(values=(16000.0,))}


def saved(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "s.npz", allow_pickle=False, **arrays)
    return tmp_path / "s.npz"


def test_samples_are_counted_along_the_batch_axis(tmp_path: Path) -> None:
    state = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
    path = saved(tmp_path, sound=np.zeros((5, 6), np.float32), state=state, table=np.ones((2, 3), np.float32))
    feeds = from_npz(path, "net", (SOUND, STATE, RATE, TABLE), VALUES, only=True)
    assert feeds.count == 5
    assert [feed["state"].shape for feed in feeds.feeds] == [(2, 1, 3), (2, 2, 3), (2, 4, 3)]
    np.testing.assert_array_equal(feeds.feeds[1]["state"], state[:, 1:3])
    assert all(feed["rate"] == 16000 and feed["table"].shape == (2, 3) for feed in feeds.feeds)
    assert shapes_in(path, "net", ["sound", "rate"], only=True) == {"sound": (5, 6)}


def test_misfits_are_reported_with_n_on_the_batch_axis(tmp_path: Path) -> None:
    path = saved(tmp_path, state=np.zeros((3, 5, 3), np.float32), table=np.ones((4, 3), np.float32))
    with pytest.raises(EngineFailure, match=r"has the shape 3\*5\*3; the input takes 2\*N\*3\."):
        from_npz(path, "net", (STATE,), only=True)
    with pytest.raises(EngineFailure, match=r"has the shape 4\*3; the input takes 2\*3\."):
        from_npz(path, "net", (TABLE,), only=True)
    with pytest.raises(EngineFailure, match="no array 'rate'"):
        from_npz(path, "net", (RATE,), only=True)


def test_given_values_replace_random_ones() -> None:
    ranges = {"rate": SampleRange(values=(8000.0,)), "state": SampleRange(values=(1, 2, 3, 4, 5, 6))}
    feeds = generated((SOUND, STATE, RATE), ranges, 0).feeds
    assert all(feed["rate"].shape == () and feed["rate"] == 8000 and feed["rate"].dtype == np.int64 for feed in feeds)
    assert {feed["state"].shape for feed in feeds} == {(2, 1, 3), (2, 2, 3), (2, 4, 3)}
    np.testing.assert_array_equal(feeds[1]["state"][:, 1], [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(EngineFailure, match="2 values; give 1, or one for each of the 6"):
        generated((STATE,), {"state": SampleRange(values=(1.0, 2.0))}, 0)
    with pytest.raises(EngineFailure, match="int64, which does not hold"):
        generated((RATE,), {"rate": SampleRange(values=(0.5,))}, 0)
