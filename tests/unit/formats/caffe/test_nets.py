"""Whole nets of the families that Caffe is known for: truth and graph against OpenCV, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.formats.caffe.detection import outputs_of
from engines.formats.caffe.net import load_net
from engines.tensors import Array
from tests.unit.formats.caffe.nets import Pair, caffemodel, layer, pair, random_blobs, source


def conv(name: str, bottom: str, count: int, parameters: str = "kernel_size: 3 pad: 1") -> str:
    return layer("Convolution", f"convolution_param {{ num_output: {count} {parameters} }}", bottom, name)


def in_place(kind: str, blob: str, parameters: str = "") -> str:
    return layer(kind, parameters, blob, blob, f"{kind}_{blob}")


def normalized(blob: str) -> str:
    scale = in_place("Scale", blob, "scale_param { bias_term: true }")
    return in_place("BatchNorm", blob) + scale + in_place("ReLU", blob)


ALEXNET = (
    'input: "data" input_dim: 1 input_dim: 3 input_dim: 35 input_dim: 35\n'
    + conv("conv1", "data", 8, "kernel_size: 5 stride: 2")
    + in_place("ReLU", "conv1")
    + layer("LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }", "conv1", "norm1")
    + layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }", "norm1", "pool1")
    + conv("conv2", "pool1", 8, "kernel_size: 3 pad: 1 group: 2")
    + in_place("ReLU", "conv2")
    + layer("InnerProduct", "inner_product_param { num_output: 16 }", "conv2", "fc6")
    + in_place("ReLU", "fc6")
    + in_place("Dropout", "fc6", "dropout_param { dropout_ratio: 0.5 }")
    + layer("InnerProduct", "inner_product_param { num_output: 10 }", "fc6", "fc8")
    + layer("Softmax", "", "fc8", "prob")
)
GOOGLENET = (
    source("data", 1, 3, 23, 23)
    + conv("a", "data", 4, "kernel_size: 1")
    + conv("b", "data", 6)
    + in_place("ReLU", "b")
    + layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 }", "data", "p")
    + conv("c", "p", 2, "kernel_size: 1")
    + layer("Concat", "", "a b c", "inception")
    + layer("Pooling", "pooling_param { pool: AVE kernel_size: 7 stride: 7 }", "inception", "pool")
    + layer("Softmax", "", "pool", "prob")
)
RESNET = (
    source("data", 1, 3, 33, 33)
    + conv("stem", "data", 8, "kernel_size: 7 pad: 3 stride: 2 bias_term: false")
    + normalized("stem")
    + layer("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", "stem", "pool")
    + layer("Split", "", "pool", "left right")
    + conv("branch", "left", 8, "kernel_size: 3 pad: 1 bias_term: false")
    + normalized("branch")
    + layer("Eltwise", "eltwise_param { operation: SUM }", "branch right", "sum")
    + in_place("ReLU", "sum")
    + layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", "sum", "mean")
    + layer("InnerProduct", "inner_product_param { num_output: 5 }", "mean", "fc")
)
MOBILENET = (
    source("data", 1, 3, 32, 32)
    + conv("conv1", "data", 8, "kernel_size: 3 pad: 1 stride: 2 bias_term: false")
    + normalized("conv1")
    + conv("depth", "conv1", 8, "kernel_size: 3 pad: 1 group: 8 bias_term: false engine: CAFFE")
    + normalized("depth")
    + conv("point", "depth", 16, "kernel_size: 1")
    + in_place("ReLU", "point")
    + layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", "point", "pool")
)
VGG_FCN = (
    source("data", 1, 3, 26, 30)
    + conv("conv1", "data", 6)
    + in_place("ReLU", "conv1")
    + layer("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }", "conv1", "pool1")
    + conv("score", "pool1", 4, "kernel_size: 1")
    + layer("Deconvolution", "convolution_param { num_output: 4 kernel_size: 4 stride: 2 }", "score", "up")
    + layer("Crop", "crop_param { axis: 2 offset: 1 }", "up data", "map")
)
NETS = {"AlexNet": ALEXNET, "GoogLeNet": GOOGLENET, "ResNet": RESNET, "MobileNet": MOBILENET}


def _close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_net_computes_what_opencv_computes(tmp_path: Path, name: str) -> None:
    net = pair(tmp_path, NETS[name])
    feed = net.feed()
    truth, graph, peer = net.truth(feed), net.onnx(feed), net.opencv(feed)
    (output,) = truth
    _close(truth[output], peer[output].reshape(truth[output].shape))
    _close(graph[output], truth[output])


def test_a_net_that_crops_a_deconvolution(tmp_path: Path) -> None:
    text = VGG_FCN.replace("up data", "up pool1") + source("unused", 1, 2)
    net = pair(tmp_path, text)
    assert list(net.inputs) == ["data"], "an input that nobody reads is none"
    feed = net.feed()
    _close(net.truth(feed)["map"], net.opencv(feed)["map"])
    _close(net.onnx(feed)["map"], net.truth(feed)["map"])


def test_the_batch_may_range(tmp_path: Path) -> None:
    for name, text in NETS.items():
        net = pair(tmp_path / name, text)
        feed = {key: np.concatenate([value, value * 0.5, value + 1]) for key, value in net.feed().items()}
        (truth,), (graph,) = net.truth(feed).values(), net.onnx(feed, largest=3).values()
        _close(graph, truth)


_PRIOR = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"


def _ssd(code: str) -> str:
    """Return an SSD with heads on two feature maps, for three classes."""
    text = source("data", 1, 3, 32, 32) + conv("f1", "data", 8, "kernel_size: 3 pad: 1 stride: 4")
    text += layer("Normalize", "norm_param { across_spatial: false channel_shared: false }", "f1", "f1_norm")
    text += conv("f2", "f1", 8, "kernel_size: 3 pad: 1 stride: 2")
    for feature, size in (("f1_norm", 8), ("f2", 16)):
        for head, count in (("loc", 3 * 4), ("conf", 3 * 3)):
            text += conv(f"{feature}_{head}", feature, count)
            order = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
            text += layer("Permute", order, f"{feature}_{head}", f"{feature}_{head}_perm")
            text += layer("Flatten", "", f"{feature}_{head}_perm", f"{feature}_{head}_flat")
        parameters = f"min_size: {size} aspect_ratio: 2 flip: true clip: false {_PRIOR}"
        text += layer("PriorBox", f"prior_box_param {{ {parameters} }}", f"{feature} data", f"{feature}_prior")
    for head in ("loc", "conf"):
        text += layer("Concat", "concat_param { axis: 1 }", f"f1_norm_{head}_flat f2_{head}_flat", head)
    text += layer("Concat", "concat_param { axis: 2 }", "f1_norm_prior f2_prior", "prior")
    text += layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }", "conf", "conf_reshape")
    text += layer("Softmax", "softmax_param { axis: 2 }", "conf_reshape", "conf_softmax")
    text += layer("Flatten", "", "conf_softmax", "conf_flat")
    output = (
        f"num_classes: 3 share_location: true background_label_id: 0 code_type: {code} keep_top_k: 50 "
        "confidence_threshold: 0.36 nms_param { nms_threshold: 0.45 top_k: 100 }"
    )
    return text + layer("DetectionOutput", f"detection_output_param {{ {output} }}", "loc conf_flat prior", "found")


def _suppressed(boxes: Array, scores: Array) -> Array:
    """Return rows of label, score and box as SSD's DetectionOutput writes them: suppression for each class."""
    rows = []
    for label in (1, 2):
        order = [place for place in np.argsort(-scores[:, label], kind="stable") if scores[place, label] > 0.36][:100]
        kept: list[int] = []
        for place in order:
            if all(_overlap(boxes[place], boxes[other]) <= 0.45 for other in kept):
                kept.append(place)
        rows += [[label, scores[place, label], *boxes[place]] for place in kept]
    return np.array(sorted(rows, key=lambda row: -row[1])[:50], dtype=np.float32)


def _overlap(a: Array, b: Array) -> float:
    size = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    areas = [np.prod(np.clip(box[2:] - box[:2], 0, None)) for box in (a, b)]
    shared = float(size[0] * size[1])
    union = float(sum(areas)) - shared
    return shared / union if union else 0.0


@pytest.mark.parametrize("code", ["CENTER_SIZE", "CORNER"])
def test_ssd_finds_what_opencv_finds(tmp_path: Path, code: str) -> None:
    net = pair(tmp_path, _ssd(code), seed=3)
    feed = net.feed(seed=1)
    truth, graph = net.truth(feed), net.onnx(feed)
    boxes, scores = outputs_of("found")
    assert list(graph) == list(truth) == [boxes, scores]
    for name, value in truth.items():
        _close(graph[name], value)
    expected = net.opencv(feed, ["found"])["found"].reshape(-1, 7)[:, 1:]
    found = _suppressed(graph[boxes][0], graph[scores][0])
    assert len(expected) > 5
    _close(found, np.array(sorted(expected.tolist(), key=lambda row: -row[1]), dtype=np.float32))


V1 = """
name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 16 input_dim: 16
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.01 } } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "pool1" type: POOLING bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "pool1" top: "fc" inner_product_param { num_output: 3 } }
layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" }
"""
V0 = """
name: "older" input: "data" input_dim: 1 input_dim: 3 input_dim: 16 input_dim: 16
layers { layer { name: "pad1" type: "padding" pad: 1 } bottom: "data" top: "pad1" }
layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 3 } bottom: "pad1" top: "conv1" }
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "pool1" type: "pool" pool: MAX kernelsize: 3 stride: 2 } bottom: "conv1" top: "pool1" }
layers { layer { name: "fc" type: "innerproduct" num_output: 3 } bottom: "pool1" top: "fc" }
layers { layer { name: "prob" type: "softmax" } bottom: "fc" top: "prob" }
"""


def test_nets_of_the_first_years_are_the_same_net(tmp_path: Path) -> None:
    new = pair(tmp_path / "v1", V1)
    blobs = random_blobs(load_net(new.net))
    feed = new.feed()
    expected = new.opencv(feed)["prob"]
    for name, text in (("v1", V1), ("v0", V0)):
        net = pair(tmp_path / name, text, blobs)
        old = Pair(net.net, tmp_path / name / "old.caffemodel")
        old.weights.write_bytes(caffemodel(load_net(net.net), blobs, old=True))
        for found in (net, old):
            _close(found.truth(feed)["prob"], expected)
            _close(found.onnx(feed)["prob"], expected)


def test_a_net_in_training_is_read_as_it_is_used(tmp_path: Path) -> None:
    text = """
    layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { source: "d" } }
    layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TEST }
      transform_param { crop_size: 8 mean_value: 104 } image_data_param { source: "list" batch_size: 2 } }
    """
    text += conv("conv", "data", 3) + layer("InnerProduct", "inner_product_param { num_output: 4 }", "conv", "fc")
    text += layer("Dropout", "include { phase: TRAIN }", "fc", "fc")
    text += layer("SoftmaxWithLoss", "loss_param { ignore_label: 3 }", "fc label", "loss")
    text += layer("Accuracy", "accuracy_param { top_k: 5 } include { phase: TEST }", "fc label", "accuracy")
    path = tmp_path / "train_val.prototxt"
    path.write_text(text)
    net = load_net(path)
    assert net.inputs == {"data": (None, None, 8, 8)}
    assert list(net.outputs) == ["fc"]
    assert [step.name for step in net.steps] == ["conv", "fc"]


_WINDOW = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(5, 12))


@settings(max_examples=60, derandomize=True)
@given(rows=_WINDOW, columns=_WINDOW, method=st.sampled_from(["MAX", "AVE"]))
def test_windows_of_pooling_are_those_of_opencv(
    tmp_path_factory: pytest.TempPathFactory,
    rows: tuple[int, int, int, int],
    columns: tuple[int, int, int, int],
    method: str,
) -> None:
    window, size = "", []
    for axis, (kernel, stride, pad, extent) in (("h", rows), ("w", columns)):
        wide = max(kernel, pad + 1)
        window += f"kernel_{axis}: {wide} stride_{axis}: {min(stride, wide)} pad_{axis}: {pad} "
        size.append(extent)
    text = source("x", 1, 2, *size) + layer("Pooling", f"pooling_param {{ pool: {method} {window} }}")
    net = pair(tmp_path_factory.mktemp("pool"), text)
    feed = net.feed()
    truth, peer = net.truth(feed)["y"], net.opencv(feed)["y"]
    assert truth.shape == peer.shape
    _close(truth, peer)
    _close(net.onnx(feed)["y"], truth)
