"""Samples: seeded and in range, or the user's own, which are checked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.tensors import samples as module
from engines.tensors.samples import SampleRange, Samples, batch_sizes, generated
from engines.tensors.signature import TensorSpec
from engines.tensors.user_samples import from_npz

IMAGE = TensorSpec.fixed("x", "float32", (1, 3, 4, 4)).batched(8)
FIXED = TensorSpec.fixed("x", "float32", (1, 4))
IDS = TensorSpec.fixed("ids", "int64", (1, 6)).batched(8)


def failure(path: Path, *inputs: TensorSpec) -> str:
    with pytest.raises(EngineFailure) as caught:
        from_npz(path, "net", inputs, only=True)
    assert caught.value.reason is FailureReason.INVALID_SPEC
    return caught.value.message


@given(st.integers(1, 64))
def test_batches_are_one_two_and_the_largest(largest: int) -> None:
    feeds = generated((TensorSpec.fixed("x", "float32", (1, 2)).batched(largest),), {}, 0)
    assert feeds.batch_sizes == tuple(sorted({1, min(2, largest), largest}))
    assert {len(feed["x"]) for feed in feeds.feeds} == set(feeds.batch_sizes)
    assert feeds.count == sum(len(feed["x"]) for feed in feeds.feeds)


def test_a_batch_too_large_for_memory_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FEED_BYTES", 3 * 4 * 4 * 4 * 5)
    assert batch_sizes((IMAGE,)) == (1, 2, 5)


def test_a_seed_gives_the_same_samples_and_another_gives_others() -> None:
    first, again, other = (generated((IMAGE, IDS), {}, seed).feeds[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first["x"], again["x"])
    assert not np.array_equal(first["x"], other["x"])
    assert first["ids"].dtype == np.int64


def test_values_lie_in_their_ranges() -> None:
    ranges = {"x": SampleRange(pixels=True), "ids": SampleRange(3, 5)}
    feeds = generated((IMAGE, IDS), ranges, 0).feeds
    pixels = np.concatenate([feed["x"].ravel() for feed in feeds])
    ids = np.concatenate([feed["ids"].ravel() for feed in feeds])
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    assert np.array_equal(pixels, np.round(pixels))
    assert set(ids.tolist()) == {3, 4, 5}
    uniform = generated((IMAGE,), {"x": SampleRange(-2, -1)}, 0).feeds[-1]["x"]
    assert -2 <= uniform.min() <= uniform.max() <= -1


@pytest.mark.parametrize(
    ("dtype", "allowed"), [("bool", {0, 1}), ("int32", {0, 1}), ("uint8", set(range(256))), ("int8", range(-128, 128))]
)
def test_usual_ranges(dtype: str, allowed: set[int]) -> None:
    feed = generated((TensorSpec.fixed("x", dtype, (1, 500)),), {}, 0).feeds[0]["x"]
    assert feed.dtype == np.dtype(dtype)
    assert set(feed.astype(int).ravel().tolist()) <= set(allowed)


def test_a_range_without_an_integer_is_refused() -> None:
    with pytest.raises(EngineFailure, match=r"no int64 samples lie in 0\.2\.\.0\.8"):
        generated((IDS,), {"ids": SampleRange(0.2, 0.8)}, 0)


@given(st.integers(1, 30))
def test_every_user_sample_is_compared(tmp_path_factory: pytest.TempPathFactory, count: int) -> None:
    path = tmp_path_factory.mktemp("npz") / "s.npz"
    np.savez(path, ids=np.arange(count)[:, None] * np.ones((1, 6), np.int64))
    feeds = from_npz(path, "net", (IDS,), only=True)
    assert {int(row[0]) for feed in feeds.feeds for row in feed["ids"]} == set(range(count))
    assert feeds.source == "USER"
    assert feeds.count == count
    assert max(feeds.batch_sizes) == 8


def test_samples_of_a_fixed_batch_go_one_by_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=np.arange(20, dtype=np.float64).reshape(5, 4))
    feeds = from_npz(tmp_path / "s.npz", "net", (FIXED,), only=True)
    assert [feed["x"].shape for feed in feeds.feeds] == [(1, 4)] * 5
    assert feeds.feeds[0]["x"].dtype == np.float32


def test_component_names_take_precedence_over_bare_ones(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, allow_pickle=False, **{"x": np.zeros((1, 4)), "net/x": np.ones((1, 4))})
    assert from_npz(path, "net", (FIXED,), only=True).feeds[0]["x"].all()
    with pytest.raises(EngineFailure, match="no array 'other/x'"):
        from_npz(path, "other", (FIXED,), only=False)


def test_bad_files_are_described(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    path.write_bytes(b"not an archive")
    assert "cannot be read as an NPZ" in failure(path, FIXED)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "single NPY array" in failure(path, FIXED)
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    assert "cannot be read as an NPZ of plain arrays" in failure(path, FIXED)


def test_bad_arrays_are_named(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, y=np.zeros((1, 4)))
    assert "no array 'x' for the input 'x'; they hold y" in failure(path, FIXED)
    np.savez(path, x=np.zeros((1, 5)))
    assert "'x' has the shape 1*5; the input takes N*4" in failure(path, FIXED)
    np.savez(path, x=np.zeros((0, 4)))
    assert "shape 0*4" in failure(path, FIXED)
    np.savez(path, x=np.array([[1.0, np.nan, 0, 0]]))
    assert "not finite" in failure(path, FIXED)
    np.savez(path, ids=np.zeros((2, 6)))
    assert "'ids' is float64; the input takes int64" in failure(path, IDS)
    np.savez(path, ids=np.full((1, 6), 2**63, np.uint64))
    assert "'ids' has values that int64 does not hold" in failure(path, IDS)
    np.savez(path, ids=np.zeros((2, 6), np.int64), x=np.zeros((3, 3, 4, 4)))
    assert "different numbers of samples" in failure(path, IDS, IMAGE)


TEXT = TensorSpec("ids", "int64", (1, 4), (1, 16), (1, 64)).batched(8)
MASK = TensorSpec("mask", "bool", (1, 4), (1, 16), (1, 64)).batched(8)
EITHER = TensorSpec("x", "float32", (3, 4, 4), (3, 8, 4), (3, 8, 8), members=((3, 8, 4), (3, 4, 8), (3, 8, 8)))


def shapes(feeds: Samples, name: str) -> list[tuple[int, ...]]:
    return [feed[name].shape for feed in feeds.feeds]


def test_ranges_are_tried_tuned_at_every_batch_and_at_both_ends() -> None:
    feeds = generated((TEXT, MASK, FIXED), {}, 0)
    assert shapes(feeds, "ids") == shapes(feeds, "mask") == [(1, 16), (2, 16), (8, 16), (1, 4), (8, 64)]
    assert set(shapes(feeds, "x")) == {(1, 4)}
    assert feeds.count == 1 + 2 + 8 + 1 + 8


def test_every_member_of_a_set_is_tried_and_nothing_between() -> None:
    assert set(shapes(generated((EITHER,), {}, 0), "x")) == {(3, 8, 4), (3, 4, 8), (3, 8, 8)}


def test_a_first_axis_of_another_range_is_no_batch() -> None:
    sequence = TensorSpec("x", "float32", (4, 2), (16, 2), (64, 2))
    assert batch_sizes((sequence,)) == batch_sizes((sequence, TEXT)) == (1,)
    assert shapes(generated((sequence,), {}, 0), "x")[-2:] == [(4, 2), (64, 2)]
    assert shapes(generated((sequence, TEXT), {}, 0), "ids")[-2:] == [(1, 4), (8, 64)]


def test_a_users_sample_is_tried_at_the_other_shapes_too(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, ids=np.arange(3 * 10).reshape(3, 10), mask=np.ones((3, 10), bool))
    feeds = from_npz(path, "net", (TEXT, MASK), only=True)
    assert shapes(feeds, "ids") == [(1, 10), (2, 10), (8, 10), (1, 16), (1, 4), (1, 64)]
    np.testing.assert_array_equal(feeds.feeds[-3]["ids"][0], [*range(10), *range(6)])


def test_a_users_sample_beyond_a_range_or_a_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, ids=np.zeros((3, 65), np.int64), x=np.zeros((3, 4, 4), np.float32))
    assert "has the shape 3*65; the input takes N*4..64" in failure(path, TEXT)
    assert "has the shape 3*4*4; the input takes 3*8*4 or 3*4*8 or 3*8*8" in failure(path, EITHER)
