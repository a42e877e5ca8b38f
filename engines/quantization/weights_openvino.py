"""Compressed weights for OpenVINO: an IR by NNCF.

Whether products are computed on activations in int8 is stated in the IR itself (`runtime_options`), where the CPU
plug-in reads it: unstated, it decides by the processor.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.graph.hygiene import save_model
from engines.quantization.compression import Compression
from engines.runtimes.openvino.models import name_by_position

if TYPE_CHECKING:
    import onnx

_GROUP = 32
_PRODUCTS_GROUP = 32
"""Activations that share a scale if they are brought to int8: the plug-in's own default."""


def write(model: onnx.ModelProto, compression: Compression, chosen: frozenset[str], out_dir: Path) -> list[Path]:
    """Write the IR with the weights of the chosen nodes compressed; return its files."""
    import nncf
    import openvino as ov

    with tempfile.TemporaryDirectory(dir=out_dir) as directory:
        source = Path(directory) / "source.onnx"
        save_model(model, source)
        graph = ov.convert_model(str(source))
        mode = getattr(nncf.CompressWeightsMode, f"INT{compression.bits}_{'SYM' if compression.symmetric else 'ASYM'}")
        with contextlib.redirect_stdout(io.StringIO()):
            graph = nncf.compress_weights(
                graph,
                mode=mode,
                ignored_scope=nncf.IgnoredScope(names=_others(model, graph, chosen), validate=False),
                **_grouping(compression),
            )
        group = "0" if compression.float_activations else str(_PRODUCTS_GROUP)
        graph.set_rt_info(group, ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
        name_by_position(graph)
        ov.save_model(graph, str(out_dir / "model.xml"), compress_to_fp16=False)
    return [out_dir / "model.xml", out_dir / "model.bin"]


def _grouping(compression: Compression) -> dict[str, Any]:
    """Return NNCF's arguments: eight bits have no groups; four have groups of a size that divides the channels."""
    import nncf

    if compression.bits == 8:
        return {}
    fallback = nncf.GroupSizeFallbackMode.ADJUST
    advanced = nncf.AdvancedCompressionParameters(group_size_fallback_mode=fallback)
    return {"group_size": compression.group_size or _GROUP, "advanced_parameters": advanced, "all_layers": False}


def _others(model: onnx.ModelProto, graph: Any, chosen: frozenset[str]) -> list[str]:
    """Return the operations of the IR that come from nodes that were not chosen, found by the values that they give.

    A Gemm becomes a MatMul, whose value has no name, and an Add, which has the Gemm's.
    """
    kept = {name for node in model.graph.node if (node.name or node.output[0]) not in chosen for name in node.output}
    names = []
    for operation in graph.get_ordered_ops():
        if operation.get_type_name() == "Add" and kept & _values(operation):
            sources = [operation.input_value(index).get_node() for index in range(operation.get_input_size())]
            names += [source.get_friendly_name() for source in sources if _is_product(source) and not _values(source)]
        elif kept & _values(operation) and (_is_product(operation) or operation.get_type_name() == "Gather"):
            names.append(operation.get_friendly_name())
    return names


def _values(operation: Any) -> set[str]:
    return {name for output in operation.outputs() for name in output.get_names()}


def _is_product(operation: Any) -> bool:
    return bool(operation.get_type_name() == "MatMul")
