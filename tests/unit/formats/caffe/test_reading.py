"""Pairs as tasks read them: detection, inputs, outputs, native form; and what is refused, with the line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.api.files import laid_out
from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.description import describe_caffe
from engines.formats.caffe.net import load_net
from engines.formats.caffe.prototxt import MAX_LAYERS, read_prototxt
from engines.formats.caffe.reference import shapes_of
from engines.formats.detection import detect
from engines.spec.template import Component
from services.cli.formats import format_of
from tests.unit.formats.caffe.nets import Pair, layer, pair, source
from tests.unit.formats.caffe.test_nets import ALEXNET, V1, _ssd, conv
from tests.unit.formats.reading import assert_equal, read

SMALL = (
    source("data", 1, 3, 8, 8)
    + conv("conv", "data", 4)
    + layer("InnerProduct", "inner_product_param { num_output: 2 }", "conv", "fc")
)


def _net(workdir: Path, text: str) -> Pair:
    return pair(workdir / "source", text)


def test_a_pair_is_read_with_a_batch_that_ranges(tmp_path: Path) -> None:
    _net(tmp_path, ALEXNET)
    prepared = read("CAFFE", tmp_path, max_batch=4)
    (data,) = prepared.signature.inputs
    assert (data.name, data.min, data.max) == ("data", (1, 3, 35, 35), (4, 3, 35, 35))
    (prob,) = prepared.signature.outputs
    assert (prob.name, prob.min, prob.max) == ("prob", (1, 10), (4, 10))
    assert_equal(prepared)


def test_the_native_form_is_the_net_without_training(tmp_path: Path) -> None:
    _net(tmp_path, V1)
    folder = read("CAFFE", tmp_path).source.files["caffe"]
    native = text_format.Parse((folder / "model.prototxt").read_text(), messages.NetParameter())
    assert [each.type for each in native.layer] == [
        "Input",
        "Convolution",
        "ReLU",
        "Pooling",
        "InnerProduct",
        "Softmax",
    ]
    feed = {"data": np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)}
    same = Pair(folder / "model.prototxt", folder / "model.caffemodel")
    np.testing.assert_allclose(same.opencv(feed)["prob"], same.truth(feed)["prob"], rtol=1e-4, atol=1e-5)


def test_outputs_may_be_named(tmp_path: Path) -> None:
    _net(tmp_path, ALEXNET)
    prepared = read("CAFFE", tmp_path, output_names=["pool1", "fc6"])
    assert [spec.name for spec in prepared.signature.outputs] == ["pool1", "fc6"]
    assert_equal(prepared)
    assert not prepared.source.files, "the native form has the outputs of the whole net"
    with pytest.raises(EngineFailure, match="no blob 'pool9'"):
        read("CAFFE", tmp_path, output_names=["pool9"])


def test_detections_come_as_boxes_and_scores_and_the_result_says_what_to_do(tmp_path: Path) -> None:
    _net(tmp_path, _ssd("CENTER_SIZE"))
    prepared = read("CAFFE", tmp_path)
    assert_equal(prepared)
    (note,) = prepared.warnings[-1:]
    for words in (
        "boxes: found_boxes",
        "scores: found_scores",
        "label_offset: 1",
        "iou_threshold: 0.45",
        "normalized: 1",
    ):
        assert words in note
    assert not prepared.source.files


def test_preprocessing_is_baked_in(tmp_path: Path) -> None:
    _net(tmp_path, SMALL)
    steps = {"mean_values": [104, 117, 123], "input_color": "RGB", "model_color": "BGR"}
    image = {"name": "data", "shape": [1, 3, 8, 8], "sample_max": 255, "preprocessing": steps}
    assert_equal(read("CAFFE", tmp_path, inputs=[image]))


@pytest.mark.parametrize(
    ("shape", "words"),
    [([1, 3, 9, 8], "declared as 9; the graph fixes it at 8"), ([1, 3, 8], "declared with 3 axes|it has 4 axes")],
)
def test_another_size_than_the_net_states_is_refused(tmp_path: Path, shape: list[int], words: str) -> None:
    _net(tmp_path, SMALL)
    with pytest.raises(EngineFailure) as caught:
        read("CAFFE", tmp_path, inputs=[{"name": "data", "shape": shape}])
    assert caught.value.reason is FailureReason.INVALID_SPEC
    assert "data" in caught.value.message
    assert "layer 'fc' (line 3), of the type InnerProduct, takes images of one size" in caught.value.suggested_fix


FREE = (
    source("data", 1, 3, 12, 16)
    + conv("a", "data", 4)
    + layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }", "a", "b")
    + layer("Pooling", "pooling_param { pool: AVE kernel_size: 2 stride: 2 }", "b", "c")
    + layer("Softmax", "", "c", "map")
    + layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", "b", "mean")
    + layer("InnerProduct", "inner_product_param { num_output: 2 }", "mean", "fc")
)


def test_a_net_without_layers_that_count_places_takes_other_sizes(tmp_path: Path) -> None:
    _net(tmp_path, FREE)
    assert read("CAFFE", tmp_path).signature.inputs[0].max == (1, 3, 12, 16), "the size that the text states"
    assert_equal(read("CAFFE", tmp_path, inputs=[{"name": "data", "shape": [1, 3, 21, 9]}]))
    ends = {"min_shape": [1, 3, 7, 8], "max_shape": [1, 3, 24, 16]}
    prepared = read("CAFFE", tmp_path, max_batch=2, inputs=[{"name": "data", "shape": [1, 3, 12, 16], **ends}])
    assert (prepared.signature.inputs[0].min, prepared.signature.inputs[0].max) == ((1, 3, 7, 8), (2, 3, 24, 16))
    random = np.random.default_rng(0)
    sizes = [(7, 9), (8, 15), (9, 10), (23, 11)]
    assert_equal(prepared, [{"data": random.normal(size=(2, 3, *size)).astype(np.float32)} for size in sizes])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FREE.replace("kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1"), "rounds its windows by the size"),
        (
            FREE.replace("kernel_size: 2 stride: 2", "kernel_size: 2 stride: 3").replace("dim: 12", "dim: 16"),
            "leaves gaps",
        ),
    ],
)
def test_a_layer_that_makes_a_graph_for_one_size_is_named(tmp_path: Path, text: str, words: str) -> None:
    _net(tmp_path, text)
    given = {"name": "data", "shape": [1, 3, 16, 16], "min_shape": [1, 3, 16, 16], "max_shape": [1, 3, 22, 16]}
    with pytest.raises(EngineFailure, match=words) as caught:
        read("CAFFE", tmp_path, inputs=[given])
    assert "(line " in caught.value.message
    assert_equal(read("CAFFE", tmp_path, inputs=[{"name": "data", "shape": [1, 3, 22, 16]}]))


def test_files_find_each_other(tmp_path: Path) -> None:
    caffe = FORMATS["CAFFE"]
    names = [
        "solver.prototxt",
        "train_val.prototxt",
        "deploy.prototxt",
        "a.caffemodel",
        "mean.binaryproto",
        "README.md",
    ]
    assert caffe.model_files(names) == ["deploy.prototxt"]
    assert caffe.model_files(["train_val.prototxt", "a.caffemodel"]) == ["train_val.prototxt"]
    assert caffe.source_path(Component(name="net"), [f"source/{name}" for name in names]) == "source/deploy.prototxt"
    _net(tmp_path, SMALL)
    folder = tmp_path / "source"
    assert detect(folder) == detect(folder / "deploy.prototxt") == "CAFFE"
    assert format_of("", [folder / "deploy.prototxt", folder / "net.caffemodel"]) == "CAFFE"
    main, files = laid_out(folder / "deploy.prototxt", "CAFFE", tmp_path / "work")
    assert (main, sorted(entry.path for entry in files)) == (
        "deploy.prototxt",
        ["source/deploy.prototxt", "source/net.caffemodel"],
    )
    (folder / "other.caffemodel").write_bytes(b"x")
    with pytest.raises(EngineFailure, match=r"has 2 files of weights beside it: net.caffemodel, other.caffemodel"):
        describe_caffe(folder, "deploy.prototxt")
    (folder / "net.caffemodel").rename(folder / "deploy.caffemodel")
    assert describe_caffe(folder, "deploy.prototxt")["metadata"]["weights"] == "deploy.caffemodel"


def test_a_description_needs_no_framework_and_counts(tmp_path: Path) -> None:
    _net(tmp_path, SMALL)
    found = describe_caffe(tmp_path / "source", "deploy.prototxt")
    assert found["parameter_count"] == 4 * 27 + 4 + 2 * 256 + 2
    assert found["operators"] == [{"operator": "Convolution", "count": 1}, {"operator": "InnerProduct", "count": 1}]
    assert found["signature"]["inputs"][0]["shape"]["min"] == [1, 3, 8, 8]
    assert found["metadata"]["outputs"] == "fc"


def _layer_of(number: int) -> str:
    return f'layer {{ name: "a{number}" type: "ReLU" bottom: "data" top: "data" }}\n'


BAD_TEXTS = {
    "an unknown layer": (
        SMALL + layer("ROIPooling", "roi_pooling_param { pooled_w: 6 }", "fc"),
        "'y' on line 4 .*ROIPooling",
    ),
    "code": (SMALL + layer("Python", 'python_param { module: "os" layer: "L" }', "fc"), "line 4 .* type 'Python'"),
    "an unknown field": (SMALL.replace("pad: 1", "pads: 1"), r"Line 2 of .*no field named .?pads"),
    "a field of another kind": (SMALL.replace("num_output: 4", 'num_output: "4"'), "Line 2 of"),
    "an end within": (SMALL[:-4], "ends within what begins on line 3"),
    "too many braces": (SMALL + "}", "Line 4 .*closes what nothing opened"),
    "nests": ("a {" * 99 + "}" * 99, "Line 1 .*nests deeper"),
    "many layers": (_layer_of(0) * (MAX_LAYERS + 1), "more than 20,000 layers"),
    "much text": ("# nothing\n" * 600_000, "bytes of text, more than any net"),
    "a blob of nobody": (SMALL + layer("ReLU", "", "lost"), r"layer 'y' \(line 4\).*reads the blob 'lost'"),
    "one input for two": (SMALL + layer("Eltwise", "", "fc"), r"layer 'y' \(line 4\).*it takes 2 or more"),
    "two inputs for one": (SMALL + layer("ReLU", "", "fc conv"), r"layer 'y' \(line 4\).*it takes 1 and"),
    "a blob that is written twice": (SMALL + layer("ReLU", "", "fc", "conv", "again"), "'again'.*written before it"),
    "nothing": ("", "nothing to compute"),
    "words": ("hello", "Line 1 of"),
    "layers in brackets": ("layer: [{ name: 'a' }]", "lists its layers in brackets|Line 1"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_text_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    text, words = BAD_TEXTS[name]
    path = tmp_path / "deploy.prototxt"
    path.write_text(text)
    with pytest.raises(EngineFailure, match=words) as caught:
        load_net(path)
    assert caught.value.reason in {FailureReason.INVALID_MODEL, FailureReason.UNSUPPORTED_OPERATOR}
    assert caught.value.suggested_fix


def test_lines_are_counted_beyond_comments_and_strings(tmp_path: Path) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_text(
        '# layer {\nname: "layer { }"\nlayer # a comment {\n{\n  name: "a" type: "Input"\n}\nlayer <\n name: "b">\n'
    )
    net = read_prototxt(path)
    assert [(each.message.name, each.line) for each in net.layers] == [("a", 3), ("b", 7)]


def _refused(workdir: Path, **component: Any) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        read("CAFFE", workdir, **component)
    return caught.value


def test_weights_that_are_not_there_or_are_those_of_another_net(tmp_path: Path) -> None:
    net = _net(tmp_path, SMALL)
    other = pair(tmp_path / "other", ALEXNET)
    net.weights.write_bytes(other.weights.read_bytes())
    failure = _refused(tmp_path)
    assert failure.reason is FailureReason.WEIGHTS_MISMATCH
    assert "weights of another net: none of the 2 layers" in failure.message
    assert "conv1" in failure.evidence

    pair(tmp_path / "source", SMALL.replace("num_output: 4", "num_output: 6"))
    net.net.write_text(SMALL)
    failure = _refused(tmp_path)
    assert (failure.reason, failure.node) == (FailureReason.WEIGHTS_MISMATCH, "conv")
    assert "layer 'conv' (line 2) needs weights of 4×3×3×3, and those of its name have 6×3×3×3" in failure.message

    pair(tmp_path / "source", SMALL.replace('"fc"', '"fc_new"'))
    net.net.write_text(SMALL)
    failure = _refused(tmp_path)
    assert (
        "layer 'fc' (line 3) of 'deploy.prototxt' needs 2 blobs of weights, and 'net.caffemodel' has none"
        in failure.message
    )

    net.weights.unlink()
    failure = _refused(tmp_path)
    assert (failure.reason, failure.suggested_fix) == (
        FailureReason.INVALID_MODEL,
        "Upload the .caffemodel in the same folder.",
    )


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"\xff" * 64, b"hello, world", b"\x89HDF\r\n\x1a\n" + bytes(99)])
def test_a_file_that_is_no_caffemodel_is_refused(tmp_path: Path, data: bytes) -> None:
    net = _net(tmp_path, SMALL)
    net.weights.write_bytes(data)
    failure = _refused(tmp_path)
    assert failure.reason is FailureReason.INVALID_MODEL
    assert "net.caffemodel" in failure.message


def test_weights_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    net = _net(tmp_path, SMALL)
    whole = net.weights.read_bytes()
    for length in range(1, len(whole), len(whole) // 37):
        net.weights.write_bytes(whole[:length])
        assert _refused(tmp_path).reason in {FailureReason.INVALID_MODEL, FailureReason.WEIGHTS_MISMATCH}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (layer("Pooling", "pooling_param { kernel_size: 99 }", "data"), "does not fit an image of"),
        (layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", "data"), "pools at random"),
        (layer("BatchNorm", "batch_norm_param { use_global_stats: false }", "data"), "by its own statistics"),
        (layer("Slice", "slice_param { axis: 2 }", "data", "a b c"), "cannot cut axis 2 of 8 into 3 parts"),
        (layer("Reshape", "reshape_param { shape { dim: 5 } }", "data"), r"cannot make \[5\]"),
        (layer("Concat", "concat_param { axis: 7 }", "data"), "has the axis 7"),
        (layer("Permute", "permute_param { order: 1 order: 1 }", "data"), r"orders the axes \[1, 1\]"),
        (layer("Convolution", "convolution_param { num_output: 4 kernel_size: 0 }", "data"), "kernel.* of 0"),
        (layer("Convolution", "convolution_param { num_output: 4 group: 3 kernel_size: 1 }", "data"), "has 3 groups"),
        (layer("LRN", "lrn_param { local_size: 4 }", "data"), "local_size must be odd"),
        (layer("Tile", "tile_param { axis: 1 tiles: 2000000000 }", "data"), "memory|does not take"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "source" / "deploy.prototxt"
    path.parent.mkdir()
    path.write_text(source("data", 1, 3, 8, 8) + text)
    file = messages.NetParameter()
    file.layer.add(name="y")
    for count in (3, 3, 1):
        file.layer[0].blobs.add(data=[1.0] * count).shape.dim.append(count)
    (path.parent / "net.caffemodel").write_bytes(file.SerializeToString())
    with pytest.raises(EngineFailure, match=words) as caught:
        read("CAFFE", tmp_path)
    assert "(line 2)" in caught.value.message


_WORDS = (
    "0",
    "7",
    "-1",
    "99999999999",
    '"fc"',
    '"lost"',
    '"Tile"',
    '"Reshape"',
    "pad:",
    "axis:",
    "{",
    "}",
    "layers",
    "top:",
)


@settings(max_examples=60, derandomize=True)
@given(changes=st.lists(st.tuples(st.integers(0, 400), st.sampled_from(_WORDS)), min_size=1, max_size=3))
def test_a_changed_text_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, str]]
) -> None:
    words = ALEXNET.split(" ")
    for place, word in changes:
        words[place % len(words)] = word
    path = tmp_path_factory.mktemp("changed") / "deploy.prototxt"
    path.write_text(" ".join(words))
    with suppress(EngineFailure):
        net = load_net(path)
        shapes_of(net, {}, {name: tuple(extent or 1 for extent in shape or (1,)) for name, shape in net.inputs.items()})
