"""Each layer of Caffe: the truth and the ONNX graph against OpenCV, or a formula in NumPy if it has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from engines.tensors import Array
from tests.unit.formats.caffe.nets import layer, pair, source

IMAGE = source("x", 2, 4, 9, 11)
PAIR = IMAGE + source("z", 2, 4, 9, 11)


class Case(NamedTuple):
    """A net, and the range of its random inputs."""

    text: str
    low: float = -1.0
    high: float = 1.0


def _one(kind: str, parameters: str = "", low: float = -1.0, high: float = 1.0) -> Case:
    return Case(IMAGE + layer(kind, parameters), low, high)


def _pool(text: str) -> Case:
    return _one("Pooling", f"pooling_param {{ {text} }}")


def _conv(text: str, kind: str = "Convolution") -> Case:
    return _one(kind, f"convolution_param {{ num_output: 6 {text} }}")


OPENCV = {
    "convolution": _conv("kernel_size: 3"),
    "convolution padded": _conv("kernel_size: 3 pad: 1 stride: 2 bias_term: false"),
    "convolution of a rectangle": _conv("kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1"),
    "convolution with dilation": _conv("kernel_size: 3 dilation: 2 pad: 2"),
    "convolution in groups": _conv("kernel_size: 3 group: 2"),
    "convolution per channel": _one(
        "ConvolutionDepthwise", "convolution_param { num_output: 4 group: 4 kernel_size: 3 }"
    ),
    "deconvolution": _conv("kernel_size: 4 stride: 2 pad: 1", "Deconvolution"),
    "deconvolution in groups": _conv("kernel_size: 3 group: 2 bias_term: false", "Deconvolution"),
    "max pooling": _pool("kernel_size: 3 stride: 2"),
    "max pooling padded": _pool("kernel_size: 3 stride: 2 pad: 1"),
    "max pooling whose last window is clipped": _pool("kernel_size: 2 stride: 2 pad: 1"),
    "max pooling of a rectangle": _pool("kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3 pad_h: 1 pad_w: 0"),
    "average pooling": _pool("pool: AVE kernel_size: 3 stride: 2"),
    "average pooling padded": _pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"),
    "average pooling beyond its padding": _pool("pool: AVE kernel_size: 4 stride: 3 pad: 1"),
    "average pooling clipped": _pool("pool: AVE kernel_size: 2 stride: 2 pad: 1"),
    "global average pooling": _pool("pool: AVE global_pooling: true"),
    "global max pooling": _pool("pool: MAX global_pooling: true"),
    "inner product": _one("InnerProduct", "inner_product_param { num_output: 5 }"),
    "inner product without bias": _one("InnerProduct", "inner_product_param { num_output: 5 bias_term: false }"),
    "inner product of the last axis": _one("InnerProduct", "inner_product_param { num_output: 5 axis: 3 }"),
    "relu": _one("ReLU"),
    "leaky relu": _one("ReLU", "relu_param { negative_slope: 0.2 }"),
    "relu6": _one("ReLU6", low=-9, high=9),
    "prelu": _one("PReLU"),
    "elu": _one("ELU", "elu_param { alpha: 1.0 }"),
    "sigmoid": _one("Sigmoid"),
    "tanh": _one("TanH"),
    "absolute value": _one("AbsVal"),
    "power": _one("Power", "power_param { power: 2 scale: 0.5 shift: 3 }"),
    "power that only scales": _one("Power", "power_param { scale: 0.5 shift: 3 }"),
    "exp": _one("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.25 }"),
    "bnll": _one("BNLL", low=-30, high=30),
    "lrn": _one("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 }"),
    "lrn within channels": _one("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
    "batch norm": _one("BatchNorm", "batch_norm_param { eps: 0.001 }"),
    "scale": _one("Scale", "scale_param { bias_term: true }"),
    "scale without bias": _one("Scale"),
    "sum": Case(PAIR + layer("Eltwise", "eltwise_param { operation: SUM coeff: 0.5 coeff: -2 }", "x z")),
    "product": Case(PAIR + layer("Eltwise", "eltwise_param { operation: PROD }", "x z")),
    "maximum": Case(PAIR + layer("Eltwise", "eltwise_param { operation: MAX }", "x z")),
    "concat": Case(PAIR + layer("Concat", "", "x z")),
    "concat of another axis": Case(PAIR + layer("Concat", "concat_param { axis: 2 }", "x z")),
    "slice": Case(
        IMAGE + layer("Slice", "", "x", "a b") + layer("AbsVal", "", "a", "y") + layer("AbsVal", "", "b", "z")
    ),
    "slice at points": Case(
        IMAGE
        + layer("Slice", "slice_param { axis: 3 slice_point: 2 slice_point: 5 }", "x", "a b c")
        + "".join(layer("AbsVal", "", part, f"y_{part}") for part in "abc")
    ),
    "flatten": _one("Flatten"),
    "flatten of some axes": _one("Flatten", "flatten_param { axis: 1 end_axis: 2 }"),
    "reshape": _one("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }"),
    "reshape of some axes": _one("Reshape", "reshape_param { shape { dim: 2 dim: 2 } axis: 1 num_axes: 1 }"),
    "permute": _one("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
    "softmax": _one("Softmax"),
    "softmax of the last axis": _one("Softmax", "softmax_param { axis: -1 }"),
    "crop": Case(IMAGE + source("z", 2, 4, 5, 6) + layer("Crop", "crop_param { axis: 2 offset: 2 offset: 3 }", "x z")),
    "normalize": _one("Normalize", "norm_param { across_spatial: false channel_shared: false }"),
    "normalize of all": _one("Normalize", "norm_param { across_spatial: true channel_shared: true }"),
    "priors": Case(
        IMAGE
        + source("z", 2, 3, 90, 110)
        + layer(
            "PriorBox",
            "prior_box_param { min_size: 20 max_size: 40 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: true "
            "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }",
            "x z",
        )
    ),
    "priors with a step": Case(
        IMAGE
        + source("z", 2, 3, 90, 110)
        + layer(
            "PriorBox",
            "prior_box_param { min_size: 20 aspect_ratio: 2 flip: false clip: false step: 10 offset: 0.25 "
            "variance: 0.1 }",
            "x z",
        )
    ),
}


@pytest.mark.parametrize("name", OPENCV)
def test_a_layer_computes_what_opencv_computes(tmp_path: Path, name: str) -> None:
    case = OPENCV[name]
    net = pair(tmp_path, case.text)
    feed = net.feed(low=case.low, high=case.high)
    truth, graph, peer = net.truth(feed), net.onnx(feed), net.opencv(feed)
    assert list(truth) == list(graph) == list(peer)
    for output, value in peer.items():
        assert truth[output].shape == graph[output].shape
        assert truth[output].size == value.size
        np.testing.assert_allclose(truth[output].ravel(), value.ravel(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(graph[output], truth[output], rtol=1e-4, atol=1e-5)


def _arg_max(x: Array) -> Array:
    places: Array = x.reshape(2, -1).argmax(1)
    return places.astype(np.float32).reshape(2, 1, 1, 1)


_SIDES = ((0, 0), (1, 1), (0, 0), (0, 0))

FORMULAS: dict[str, tuple[Case, Callable[[Array], Array]]] = {
    "log": (
        _one("Log", "log_param { base: 10 scale: 2 shift: 3 }", 0.1, 2),
        lambda x: np.log10(2 * x + 3),
    ),
    "exp of e": (_one("Exp"), np.exp),
    "swish": (_one("Swish", "swish_param { beta: 2 }"), lambda x: x / (1 + np.exp(-2 * x))),
    "clip": (_one("Clip", "clip_param { min: -0.5 max: 0.25 }"), lambda x: np.clip(x, -0.5, 0.25)),
    "tile": (_one("Tile", "tile_param { axis: 2 tiles: 3 }"), lambda x: np.tile(x, (1, 1, 3, 1))),
    "sum of axes": (_one("Reduction", "reduction_param { axis: 1 coeff: 2 }"), lambda x: 2 * x.sum((1, 2, 3))),
    "sum of absolutes": (
        _one("Reduction", "reduction_param { operation: ASUM axis: 2 }"),
        lambda x: np.abs(x).sum((2, 3)),
    ),
    "sum of squares": (_one("Reduction", "reduction_param { operation: SUMSQ axis: -1 }"), lambda x: (x**2).sum(3)),
    "mean of all": (_one("Reduction", "reduction_param { operation: MEAN }"), lambda x: x.mean()),
    "argmax": (_one("ArgMax"), _arg_max),
    "argmax of an axis": (
        _one("ArgMax", "argmax_param { axis: 1 }"),
        lambda x: x.argmax(1, keepdims=True).astype(np.float32),
    ),
    "two greatest values": (
        _one("ArgMax", "argmax_param { axis: 1 top_k: 2 out_max_val: true }"),
        lambda x: -np.sort(-x, axis=1)[:, :2],
    ),
    "lrn with a constant, which opencv ignores": (
        _one("LRN", "lrn_param { local_size: 3 alpha: 0.6 k: 2 }"),
        lambda x: x / (2 + 0.2 * (x**2 + np.pad(x, _SIDES)[:, :4] ** 2 + np.pad(x, _SIDES)[:, 2:] ** 2)) ** 0.75,
    ),
    "max pooling rounded down": (
        _pool("kernel_size: 2 stride: 2 round_mode: FLOOR"),
        lambda x: x[:, :, :8, :10].reshape(2, 4, 4, 2, 5, 2).max((3, 5)),
    ),
    "inner product of all axes from the second": (
        _one("InnerProduct", "inner_product_param { num_output: 1 axis: 2 bias_term: false }"),
        lambda x: np.zeros((2, 4, 1)),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_layer_computes_its_formula(tmp_path: Path, name: str) -> None:
    case, formula = FORMULAS[name]
    net = pair(tmp_path, case.text, {"y": [np.zeros((1, 99), np.float32)]} if "inner" in name else None)
    feed = net.feed(low=case.low, high=case.high)
    expected = formula(feed["x"])
    for found in (net.truth(feed)["y"], net.onnx(feed)["y"]):
        assert found.shape == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_layers_with_two_inputs_that_opencv_lacks(tmp_path: Path) -> None:
    text = PAIR + source("c", 4) + layer("Scale", "scale_param { axis: 0 }", "x z", "a")
    text += layer("Bias", "bias_param { axis: 1 }", "a c", "b") + layer("Bias", "bias_param { axis: 1 }", "b", "y")
    net = pair(tmp_path, text, {"y": [np.array([1, 2, 3, 4], np.float32)]})
    feed = net.feed()
    shifted = feed["c"] + np.array([1, 2, 3, 4], np.float32)
    for found in (net.truth(feed)["y"], net.onnx(feed)["y"]):
        np.testing.assert_allclose(found, feed["x"] * feed["z"] + shifted[:, None, None], rtol=1e-5, atol=1e-5)


def test_embed(tmp_path: Path) -> None:
    text = source("x", 2, 3) + layer("Embed", "embed_param { input_dim: 7 num_output: 5 }")
    table, bias = np.arange(35, dtype=np.float32).reshape(7, 5), np.ones(5, np.float32)
    net = pair(tmp_path, text, {"y": [table, bias]})
    feed = {"x": np.array([[0, 6, 3], [1, 1, 2]], np.float32)}
    for found in (net.truth(feed)["y"], net.onnx(feed)["y"]):
        np.testing.assert_array_equal(found, table[feed["x"].astype(int)] + 1)


def test_a_shared_slope_and_a_factor_of_nothing(tmp_path: Path) -> None:
    text = IMAGE + layer("PReLU", "prelu_param { channel_shared: true }", "x", "p") + layer("BatchNorm", "", "p", "y")
    zeros = [np.zeros(4, np.float32), np.zeros(4, np.float32), np.zeros(1, np.float32)]
    net = pair(tmp_path, text, {"p": [np.array([0.5], np.float32)], "y": zeros})
    feed = net.feed()
    expected = np.where(feed["x"] > 0, 1, 0.5) * feed["x"] / np.sqrt(1e-5)
    for found in (net.truth(feed)["y"], net.onnx(feed)["y"]):
        np.testing.assert_allclose(found, expected, rtol=1e-3)
