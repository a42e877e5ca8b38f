from pathlib import Path

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.graph import hygiene
from engines.graph.interface import dtype_name, element_type, signature_of
from engines.tensors.shapes import OPEN_EXTENT
from engines.tensors.signature import TensorSpec
from tests.unit.graph import graphs


def _save_external(path: Path) -> None:
    import onnx

    onnx.save_model(graphs.conv_bn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def test_tidy_infers_shapes_and_strips_what_only_the_exporter_needed() -> None:
    model = graphs.conv_bn()
    model.doc_string = model.graph.node[0].doc_string = "written on a laptop"
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", 'File "/home/someone/net.py"'
    tidied = hygiene.tidy(model)
    assert b"laptop" not in tidied.SerializeToString()
    assert b"someone" not in tidied.SerializeToString()
    assert {value.name for value in tidied.graph.value_info} >= {"conv", "bn"}


def test_graph_that_the_checker_refuses() -> None:
    model = graphs.conv_bn()
    model.graph.node[1].input.extend(["x"] * 6)
    with pytest.raises(EngineFailure, match="checker refuses") as caught:
        hygiene.tidy(model)
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_large_models_keep_their_weights_in_a_file_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hygiene.save_model(graphs.conv_bn(), tmp_path / "small.onnx") == [tmp_path / "small.onnx"]
    big = graphs.conv_bn(channels=300)
    with monkeypatch.context() as patched:
        patched.setattr(hygiene, "MAX_PROTOBUF_BYTES", 100)
        files = hygiene.save_model(big, tmp_path / "big.onnx")
    assert [file.name for file in files] == ["big.onnx", "big.onnx.data"]
    loaded = hygiene.load_model(files[0])
    x = np.ones((1, 300, 6, 6), np.float32)
    np.testing.assert_array_equal(graphs.run(loaded, x=x)[0], graphs.run(graphs.conv_bn(channels=300), x=x)[0])


def test_external_data_beside_the_model_is_read(tmp_path: Path) -> None:
    _save_external(tmp_path / "m.onnx")
    model = hygiene.load_model(tmp_path / "m.onnx")
    assert model.graph.initializer[0].raw_data
    assert not hygiene.load_model(tmp_path / "m.onnx", weights=False).graph.initializer[0].raw_data


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "link"])
def test_external_data_outside_of_the_directory_is_refused(tmp_path: Path, location: str) -> None:
    from onnx import external_data_helper

    directory = tmp_path / "model"
    directory.mkdir()
    (tmp_path / "secret").write_bytes(b"x" * 10_000)
    (directory / "link").symlink_to(tmp_path / "secret")
    model = graphs.conv_bn()
    external_data_helper.set_external_data(model.graph.initializer[0], location)
    model.graph.initializer[0].ClearField("raw_data")
    (directory / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineFailure, match="outside of its own directory") as caught:
        hygiene.load_model(directory / "m.onnx")
    assert caught.value.reason is FailureReason.UNSAFE_MODEL
    assert caught.value.evidence == location


def test_missing_and_short_external_data(tmp_path: Path) -> None:
    _save_external(tmp_path / "m.onnx")
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:50])
    with pytest.raises(EngineFailure, match="external data"):
        hygiene.load_model(tmp_path / "m.onnx")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(EngineFailure, match=r"'weights.bin' is missing"):
        hygiene.load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<html><body>404</body></html>", "HTML page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"cut", "truncated"),
        (b"\x08\x0a", "no graph"),
    ],
)
def test_other_files_are_refused_with_what_they_look_like(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "m.onnx").write_bytes(graphs.conv_bn().SerializeToString()[:-40] if content == b"cut" else content)
    with pytest.raises(EngineFailure, match=words) as caught:
        hygiene.load_model(tmp_path / "m.onnx")
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_signature_of_dynamic_unknown_and_old_style_inputs() -> None:
    model = graphs.conv_bn()
    model.graph.input.append(graphs.value("w", "float32", [4, 3, 3, 3]))
    model.graph.output.append(graphs.value("bn", "float32", None))
    signature = signature_of(model)
    assert signature.inputs == (TensorSpec("x", "float32", (1, 3, 6, 6), (1, 3, 6, 6), (OPEN_EXTENT, 3, 6, 6)),)
    assert signature.outputs[1] == TensorSpec.unknown("bn", "float32")


def test_inputs_other_than_tensors_are_refused() -> None:
    from onnx import TensorProto, helper

    model = graphs.conv_bn()
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    with pytest.raises(EngineFailure, match="'s' of the graph is of the type 'sequence'"):
        signature_of(model)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool", "string"])
def test_element_types_there_and_back(dtype: str) -> None:
    assert dtype_name(element_type(dtype)) == dtype
