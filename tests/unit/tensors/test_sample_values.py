"""Plausible values: chosen by shape, type and name, in range, the same for a seed."""

import numpy as np
import pytest

from engines.imaging import Nv12
from engines.tensors.sample_values import Field, plausible
from engines.tensors.samples import SampleRange, generated
from engines.tensors.signature import TensorSpec


def values(*fields: Field, seed: int = 0) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    return plausible(np.random.default_rng(seed), fields)


@pytest.mark.parametrize(
    ("shape", "dtype", "span", "kinds"),
    [
        ((2, 3, 32, 32), "float32", None, ("images",)),
        ((2, 32, 40, 1), "float16", None, ("images",)),
        ((1, 32, 32, 3), "uint8", (0, 255), ("images",)),
        ((2, 64, 7, 7), "float32", None, ()),
        ((2, 512), "float32", None, ("tones",)),
        ((1, 1, 16000), "float32", None, ("tones",)),
        ((2, 80, 3000), "float32", None, ()),
        ((2, 10), "float32", None, ()),
        ((2, 10), "int64", (0, 30521), ("tokens",)),
        ((2, 10), "int64", (0, 1), ()),
        ((2, 10), "int64", None, ()),
        ((), "float32", None, ()),
    ],
)
def test_the_kind_follows_from_shape_type_and_span(
    shape: tuple[int, ...], dtype: str, span: tuple[float, float] | None, kinds: tuple[str, ...]
) -> None:
    found, told = values(Field("x", dtype, shape, span))
    assert told == kinds
    assert {name: array.shape for name, array in found.items()} == ({"x": shape} if kinds else {})


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 1, 800), (3, 40)])
def test_values_stay_in_their_span_and_repeat_for_a_seed(shape: tuple[int, ...]) -> None:
    field = Field("x", "int32" if len(shape) == 2 else "float32", shape, (-3, 200))
    first, again, other = (values(field, seed=seed)[0]["x"] for seed in (1, 1, 2))
    assert -3 <= first.min() < first.max() <= 200
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_neighbours_in_pictures_and_tones_are_alike() -> None:
    pictures = values(Field("x", "float32", (1, 3, 64, 64), (0, 1)))[0]["x"]
    assert np.abs(np.diff(pictures, axis=3)).mean() < 0.1  # 0.33 for noise
    tones = values(Field("x", "float32", (1, 16000)))[0]["x"]
    assert np.abs(np.diff(tones)).mean() < np.abs(tones - np.random.default_rng(0).permuted(tones)).mean()


def test_few_tokens_are_frequent() -> None:
    ids = values(Field("input_ids", "int64", (4, 500), (0, 30521)))[0]["input_ids"]
    assert (ids < 175).mean() == pytest.approx(0.5, abs=0.1)  # 175 is the root of the vocabulary


def test_masks_and_positions_match_the_tokens() -> None:
    found, kinds = values(
        Field("input_ids", "int64", (1, 8), (0, 999)),
        Field("attention_mask", "int64", (1, 8)),
        Field("token_type_ids", "int32", (1, 8)),
        Field("position_ids", "int64", (1, 8), (0, 5)),
        Field("scale", "float32", (1,)),
    )
    assert kinds == ("tokens",)
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]]
    assert found["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 0, 1, 1]]
    assert found["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 5, 5]]
    assert "scale" not in found


def test_masks_and_positions_stay_in_their_span() -> None:
    ids = Field("input_ids", "int64", (1, 8), (0, 999))
    found, _ = values(ids, Field("mask", "int64", (1, 8), (1, 1)), Field("token_type_ids", "int64", (1, 8), (0, 0)))
    assert found["mask"].tolist() == [[1] * 8]
    assert found["token_type_ids"].tolist() == [[0] * 8]


def test_generated_samples_are_noise_followed_by_plausible_values() -> None:
    picture = TensorSpec.fixed("x", "float32", (1, 3, 16, 16)).batched(8)
    samples = generated((picture,), {"x": SampleRange(pixels=True)}, 5)
    assert samples.values == ("noise", "images")
    *noise, last = samples.feeds
    assert [len(feed["x"]) for feed in noise] == list(samples.batch_sizes)
    assert last["x"].shape == (2, 3, 16, 16)
    assert np.array_equal(last["x"], np.rint(last["x"]))
    assert 0 <= last["x"].min() <= last["x"].max() <= 255
    assert samples.count == sum(len(feed["x"]) for feed in samples.feeds)
    plain = generated((TensorSpec.fixed("x", "float32", (1, 10)),), {}, 5)
    assert (plain.values, len(plain.feeds)) == (("noise",), 4)


def test_nv12_inputs_get_coloured_pictures() -> None:
    spec = TensorSpec.fixed("x", "uint8", (1, 48, 32)).batched(4)
    samples = generated([spec], {"x": SampleRange(pixels=True, nv12=Nv12())}, 0)
    assert samples.values == ("noise", "NV12 images")
    pictures = samples.feeds[-1]["x"]
    assert (pictures.shape, pictures.dtype) == ((2, 48, 32), np.dtype(np.uint8))
    assert 16 <= pictures[:, :32].min() < pictures[:, :32].max() <= 235
    assert pictures[:, 32:].std() > 1
