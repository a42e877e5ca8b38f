"""OpenVINO's models: read from a torch network, compressed, with names that repeat; and the times of their nodes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

from engines.runtimes.host import PROFILED_RUNS, usual_layers
from engines.runtimes.protocol import Layer
from engines.runtimes.refusals import crashed
from engines.runtimes.source import BuildSource
from engines.runtimes.torch_networks.modules import example_of, packaged_network
from engines.runtimes.torch_networks.state import kept_state
from engines.tensors import Arrays

_PRODUCTS = {"Convolution": "Conv", "FullyConnected": "Gemm", "MatMul": "MatMul"}
"""ONNX operators by the plug-in's names of kernels that multiply."""
_INTEGERS = frozenset({"i8", "u8", "i4", "u4"})
_PRODUCTS_GROUP = "32"
"""Activations that share a scale in int8 products with compressed weights: the plug-in's default."""


def read_network(source: BuildSource) -> Any:
    """Return the model that OpenVINO's own PyTorch reader makes of the torch network, its inputs and outputs named.

    Raises:
        EngineFailure: INVALID_SPEC if there is no network, TOOLCHAIN_CRASHED if it cannot be read.
    """
    import openvino as ov
    import torch

    module = packaged_network("OpenVINO's PyTorch reader", source)
    inputs, outputs = source.signature.inputs, source.signature.outputs
    shapes = [
        ov.PartialShape([low if low == high else ov.Dimension() for low, high in zip(spec.min, spec.max, strict=True)])
        for spec in inputs
    ]
    try:
        with (
            kept_state(module),
            warnings.catch_warnings(),
            torch.inference_mode(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            model = ov.convert_model(module, example_input=example_of(source), input=shapes)
        for port, spec in [*zip(model.inputs, inputs, strict=True), *zip(model.outputs, outputs, strict=True)]:
            port.get_tensor().set_names({spec.name})
        model.validate_nodes_and_infer_types()
    except Exception as error:
        raise crashed("OpenVINO's PyTorch reader", "read the network", error) from error
    return model


def compress_weights(model: Any) -> Any:
    """Return the model with the weights of its products and lookups in eight bits, and products computed in int8."""
    import nncf

    with contextlib.redirect_stdout(io.StringIO()):
        compressed = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    compressed.set_rt_info(_PRODUCTS_GROUP, ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    return compressed


def is_quantized(model: Any) -> bool:
    """Return whether an IR has quantization: FakeQuantize, or parameters in integers of at most eight bits."""
    return any(
        operation.get_type_name() == "FakeQuantize"
        or (
            operation.get_type_name() == "Constant"
            and operation.get_output_element_type(0).get_type_name() in _INTEGERS
            and len(operation.get_output_shape(0)) >= 2
        )
        for operation in model.get_ordered_ops()
    )


def name_by_position(model: Any) -> None:
    """Replace names that contain a counter of the process, so that equal graphs give equal bytes."""
    model.set_friendly_name("model")
    for position, operation in enumerate(model.get_ordered_ops()):
        generated = operation.get_friendly_name() == operation.get_name()
        if operation.get_type_name() == "Constant" or generated:
            operation.set_friendly_name(f"{operation.get_type_name()}_at_{position}")


def profiled_layers(entry: str, config: Mapping[str, Any], feed: Arrays) -> list[Layer]:
    """Return the nodes of an IR that take time, in the order in which they ran; a product in integers is named so.

    Args:
        entry: Path of the IR.
        config: Options of the plug-in.
        feed: The inputs.
    """
    import openvino as ov

    request = ov.Core().compile_model(entry, "CPU", {**config, "PERF_COUNT": True}).create_infer_request()
    request.infer(dict(feed))
    calls = []
    for _ in range(PROFILED_RUNS):
        request.infer(dict(feed))
        calls.append([_layer(counted) for counted in request.get_profiling_info() if counted.real_time])
    return usual_layers(calls)


def _layer(counted: Any) -> Layer:
    kind = _PRODUCTS.get(counted.node_type, counted.node_type)
    integer = any(words in counted.exec_type for words in ("i8", "u8", "I8"))
    named = f"integer {kind}" if integer and kind in _PRODUCTS.values() else kind
    return Layer(counted.node_name, named, counted.real_time.total_seconds() * 1000, counted.exec_type)
