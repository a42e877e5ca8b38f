"""Reads, checks, tidies and writes ONNX files."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

from engines.failures import EngineFailure, FailureReason
from engines.graph.light import read_light
from engines.graph.scopes import SCOPES_KEY
from engines.graph.soundness import refuse_broken
from engines.graph.walk import all_graphs, all_nodes, all_tensors
from engines.spec.sniff import sniff

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

MAX_PROTOBUF_BYTES = 2**31 - 1
"""Largest protobuf message; larger models keep their weights in a file beside it."""

_SMALL = 1024
"""Largest constants that shape inference reads, in elements: shapes, axes and the like."""

_KEPT_METADATA = frozenset({SCOPES_KEY})
"""Node metadata that is kept: the module of the network that a node comes from."""


def load_model(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """Return the model of an ONNX file.

    Args:
        path: The file; files of external data lie in the same directory or below it.
        weights: False skips weights and external data: see `read_light`.

    Raises:
        EngineFailure: INVALID_MODEL for another or a truncated file, with what it looks like, or if external data is
            missing; UNSAFE_MODEL if external data lies outside the directory.
    """
    import onnx

    looks = sniff(path)
    if looks.startswith("an empty file"):
        raise _invalid(path, "it is empty")
    if path.stat().st_size > MAX_PROTOBUF_BYTES:
        raise _invalid(path, "it is larger than 2 GiB, the most that protobuf reads; save its weights as external data")
    try:
        model = onnx.load_model(path, load_external_data=False) if weights else read_light(path)
    except Exception as error:
        log.info("%s does not parse: %s", path.name, error)
        raise _invalid(path, f"it looks like {looks}" if looks != "an ONNX model" else "it is truncated") from error
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise _invalid(path, f"it has no graph; it looks like {looks}")
    if not (model.opset_import or model.functions):
        raise _invalid(path, f"it names no operator set; it looks like {looks}")
    try:
        external = external_files(model, path)
        if weights and external:
            onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    except EngineFailure:
        raise
    except Exception as error:
        log.info("The external data of %s does not load: %s", path.name, error)
        raise _invalid(path, f"its external data cannot be read: {str(error)[:300]}") from error
    return model


def external_files(model: onnx.ModelProto, path: Path) -> list[str]:
    """Return the files of external data that the model names, checked to lie in or below the model's directory.

    Raises:
        EngineFailure: UNSAFE_MODEL for one that lies elsewhere, INVALID_MODEL for one that is missing.
    """
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    root = path.parent.resolve()
    needed: dict[str, int] = {}
    for tensor in all_tensors(model):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            if info.location == path.name:  # left in the file by `read_light`
                continue
            end = max(1, (info.offset or 0) + (info.length or 0)) if 0 not in tensor.dims else 0
            needed[info.location] = max(needed.get(info.location, 0), end)
    for location, size in sorted(needed.items()):
        target = (root / location).resolve()
        if not location or Path(location).is_absolute() or not target.is_relative_to(root):
            raise EngineFailure(
                FailureReason.UNSAFE_MODEL,
                f"'{path.name}' refers to external data at '{location}', outside of its own directory.",
                evidence=location,
                suggested_fix="Save the model with its external data beside it.",
            )
        if not target.is_file():
            raise _invalid(path, f"its external data file '{location}' is missing; upload it together with the model")
        if target.stat().st_size < size:
            has = f"has {target.stat().st_size} bytes, and the weights in it need {size}"
            raise _invalid(path, f"its external data file '{location}' {has}; it was not uploaded whole")
    return sorted(needed)


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model checked, with inferred shapes and without documentation strings and exporters' traces.

    It is changed in place, so that its weights are not in memory twice. Checker and inference see the graph without its
    larger weights, which makes them fast whatever the model's size.

    Raises:
        EngineFailure: INVALID_MODEL if the checker refuses it.
    """
    import onnx

    _strip(model)
    light = check(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except Exception as error:
        log.info("Shapes cannot be inferred: %s", error)
        return model
    for part in ("value_info", "output"):
        model.graph.ClearField(part)
        getattr(model.graph, part).extend(getattr(inferred, part))
    return model


def check(model: onnx.ModelProto) -> onnx.ModelProto:
    """Check a model against the rules of ONNX, and return it without its larger weights.

    Raises:
        EngineFailure: INVALID_MODEL as `refuse_broken`, or with the checker's message.
    """
    import onnx

    refuse_broken(model)
    light = _without_weights(model)
    ends = [value.type.tensor_type for value in (*light.graph.input, *light.graph.output)]
    unsaid = [end for end in ends if end.elem_type and not end.HasField("shape")]
    for end in unsaid:  # only the checker needs the number of axes
        end.shape.SetInParent()
    try:
        onnx.checker.check_model(light)
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The ONNX checker refuses the graph: {reason}",
            suggested_fix="Export the model again; onnx.checker.check_model(model, full_check=True) reports what is "
            "wrong.",
        ) from error
    for end in unsaid:
        end.ClearField("shape")
    return light


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with inputs in place of initializers of the main graph that are large or in other files."""
    import onnx

    graph = model.graph
    inputs = {value.name for value in graph.input}
    there = onnx.TensorProto.DEFAULT
    kept = [each for each in graph.initializer if math.prod(each.dims) <= _SMALL and each.data_location == there]
    weights = [each for each in graph.initializer if math.prod(each.dims) > _SMALL or each.data_location != there]
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    light.graph.name = graph.name
    for part in ("node", "input", "output", "value_info", "sparse_initializer", "quantization_annotation"):
        getattr(light.graph, part).extend(getattr(graph, part))
    light.graph.initializer.extend(kept)
    for tensor in weights:
        if tensor.name not in inputs:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(value)
    for tensor in all_tensors(light):
        if tensor.data_location != there:  # of a subgraph or a node, which no input can replace
            tensor.data_location = there
            tensor.dims[:] = [0]
    return light


def summary(model: onnx.ModelProto) -> str:
    """Return the size of a model in words, for the log."""
    return f"{len(model.graph.node)} nodes, {len(model.graph.initializer)} initializers"


def save_model(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write the model, with its weights in a file beside it if it is larger than 2 GiB; return the files."""
    import onnx

    if weight_bytes(model) < MAX_PROTOBUF_BYTES:
        onnx.save_model(model, path)
        return [path]
    data = path.with_name(path.name + ".data")
    data.unlink(missing_ok=True)
    onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data.name)
    return [path, data]


def weight_bytes(model: onnx.ModelProto) -> int:
    """Return roughly how many bytes the model takes as one message: those of its tensors, and one MiB for the rest."""
    total = 2**20
    for tensor in all_tensors(model):
        packed = len(tensor.float_data) + len(tensor.int32_data)
        wide = len(tensor.int64_data) + len(tensor.double_data) + len(tensor.uint64_data)
        total += len(tensor.raw_data) + 5 * packed + 10 * wide
    return total


def _strip(model: onnx.ModelProto) -> None:
    model.doc_string = ""
    for graph in all_graphs(model):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.doc_string = ""
            del value.metadata_props[:]
    for node in all_nodes(model):
        node.doc_string = ""
        kept = [entry for entry in node.metadata_props if entry.key in _KEPT_METADATA]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        for attribute in node.attribute:
            attribute.doc_string = ""


def _invalid(path: Path, why: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{path.name}' is not a usable ONNX model: {why}.",
        suggested_fix="Upload the whole file that the exporter wrote, with its external data.",
    )
