"""Packages of real small networks as Triton's backends would load them.

The checks are those that the backends make when they load a model: `CompareDimsSupported` of both, ONNX Runtime's
completion of `max_batch_size`, OpenVINO's fixed batch.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.package.manifest import Manifest, read_manifest
from engines.package.triton import TritonModel, lay_out
from services.registry.releases.layout import config_text
from tests.integration.conversion.workbench import CNN, TWO_INPUTS, Bench

RUNTIMES = ["onnxruntime", "openvino"]


def repository(bench: Bench, folder: Path) -> tuple[Manifest, list[tuple[Path, Any]]]:
    """Lay the bench's package out; return its manifest, and the folder and configuration of each model."""
    manifest = read_manifest(bench.package)
    models = lay_out(manifest, "net", 3, "models/net/versions/1")
    return manifest, [_written(bench.package, folder, model) for model in models]


def _written(package: Path, folder: Path, model: TritonModel) -> tuple[Path, Any]:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    for path, source in model.files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / source, folder / path)
    (folder / model.config_path).write_text(config_text(model.config))
    text = (folder / model.config_path).read_text()
    return folder / model.name / "3", text_format.Parse(text, model_config_pb2.ModelConfig())


def shapes_of(entry: Path, config: Any) -> dict[str, list[int]]:
    """Return the shape of each tensor as the backend sees it once the model is loaded, -1 for open axes."""
    if entry.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(entry), providers=["CPUExecutionProvider"])
        tensors = [*session.get_inputs(), *session.get_outputs()]
        shapes = {tensor.name: [axis if isinstance(axis, int) else -1 for axis in tensor.shape] for tensor in tensors}
        batched = all(shape and shape[0] == -1 for shape in shapes.values())
        assert batched == (config.max_batch_size > 0), "the backend completes the configuration with another batch"
        return shapes
    import openvino as ov

    model = ov.Core().read_model(str(entry))
    if config.max_batch_size:
        preprocessor = ov.preprocess.PrePostProcessor(model)
        for tensor in config.input:
            preprocessor.input(tensor.name).tensor().set_layout(ov.Layout("N..."))
        model = preprocessor.build()
        ov.set_batch(model, config.max_batch_size)
    return {
        port.get_any_name(): [axis.get_length() if axis.is_static else -1 for axis in port.get_partial_shape()]
        for port in (*model.inputs, *model.outputs)
    }


def check_as_the_backend_does(entry: Path, config: Any) -> None:
    shapes = shapes_of(entry, config)
    assert {tensor.name for tensor in (*config.input, *config.output)} == set(shapes)
    batch = [config.max_batch_size if config.backend == "openvino" else -1] if config.max_batch_size else []
    for tensor in (*config.input, *config.output):
        wanted = batch + list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
        found = shapes[tensor.name]
        if not found:
            assert wanted == [1]
            continue
        assert len(wanted) == len(found), tensor.name
        for axis, (asked, has) in enumerate(zip(wanted, found, strict=True)):
            assert has == asked or (has == -1 and (config.backend == "openvino" or tensor in config.input)), (
                f"{tensor.name}, axis {axis}: the model has {found}, the configuration {wanted}"
            )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batched_network_is_loaded_as_it_is(runtime: str, bench: Bench, tmp_path: Path) -> None:
    bench.put_network(CNN)
    bench.convert(bench.request(runtime=runtime))
    _, ((folder, config),) = repository(bench, tmp_path / "repository")
    check_as_the_backend_does(next(folder.glob("model.[ox]*")), config)
    assert (config.max_batch_size, list(config.input[0].dims), list(config.output[0].dims)) == (4, [3, 12, 12], [10])
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    warmup = config.model_warmup[0]
    assert list(warmup.inputs["x"].dims) == [3, 12, 12]
    if runtime == "openvino":
        import openvino as ov

        # The weights are found under their new name.
        compiled = ov.Core().compile_model(str(folder / "model.xml"), "CPU")
        assert compiled(np.zeros((1, 3, 12, 12), np.float32))[0].shape == (1, 10)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_without_axes_of_their_own_are_served(runtime: str, batch: int, bench: Bench, tmp_path: Path) -> None:
    bench.put_network(TWO_INPUTS)
    inputs = [
        {"name": "ids", "shape": ["1", "7"], "dtype": "int64", "sample_max": 49},
        {"name": "mask", "shape": ["1", "7"]},
    ]
    bench.convert(
        bench.request(runtime=runtime, method="raw", inputs=inputs, max_batch=batch, output_names=["hidden", "best"])
    )
    _, ((folder, config),) = repository(bench, tmp_path / "repository")
    check_as_the_backend_does(next(folder.glob("model.[ox]*")), config)
    assert config.max_batch_size == (3 if batch > 1 else 0)
    best = next(tensor for tensor in config.output if tensor.name == "best")
    assert (list(best.dims), best.HasField("reshape")) == ([1], batch > 1)
    assert all(entry.zero_data for entry in config.model_warmup[0].inputs.values())
