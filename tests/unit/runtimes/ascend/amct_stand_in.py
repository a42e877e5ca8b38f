"""A stand-in for AMCT's command `amct_onnx`, for tests alone: it searches no ranges.

It holds the options of `calibration` against AMCT's manual, reads every calibration file, and writes models of the
kinds that AMCT writes: in the deploy model, convolutions and products with a constant weight take integers between
AscendQuant and AscendDequant; in the fake-quant model their weights are rounded. Its scales are those of the largest
value, so no chip should get them. It is written apart from the room that it tests, and knows nothing of it.

A graph with an operator `Refuses` makes it fail.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPTIONS = {
    "model",
    "save_path",
    "input_shape",
    "data_dir",
    "data_types",
    "evaluator",
    "calibration_config",
    "batch_num",
}
CONFIG = re.compile(r'batch_num : \d+|activation_offset : (true|false)|skip_layers : "[^"]+"|common_config : \{.*\}')
PATH = re.compile(r"[\w./-]+")


class RefusedError(Exception):
    """What AMCT answers."""


def main(arguments: Sequence[str]) -> None:
    """Calibrate."""
    if arguments[0] != "calibration":
        raise RefusedError(f"invalid choice: {arguments[0]}")
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments[1:])
    if unknown := options.keys() - OPTIONS:
        raise RefusedError(f"unrecognized arguments: {unknown}")
    if "batch_num" in options and "calibration_config" in options:
        raise RefusedError("batch_num and calibration_config exclude each other")
    for name in ("model", "save_path", "calibration_config"):
        if not PATH.fullmatch(options[name]):
            raise RefusedError(f"{name} is no path: {options[name]}")
    lines = Path(options["calibration_config"]).read_text().splitlines()
    if wrong := [line for line in lines if not CONFIG.fullmatch(line)]:
        raise RefusedError(f"Message type AMCTConfig has no field like {wrong[0]}")
    model = onnx.load(options["model"])
    check_model(model)
    check_data(options, model, int(lines[0].rpartition(" ")[2]))
    skipped = {line.partition('"')[2].rstrip('"') for line in lines if line.startswith("skip_layers")}
    layers = [node for node in model.graph.node if is_layer(node, model) and node.name not in skipped]
    onnx.save(deploy(model, {node.name for node in layers}), f"{options['save_path']}_deploy_model.onnx")
    onnx.save(fake(model, {node.name for node in layers}), f"{options['save_path']}_fake_quant_model.onnx")
    Path(f"{options['save_path']}_quant.json").write_text("{}")


def check_model(model: onnx.ModelProto) -> None:
    """Refuse files that old releases of ONNX do not read."""
    (opset,) = model.opset_import
    if opset.version > 18 or model.ir_version > (7 if opset.version <= 14 else 8):
        raise RefusedError(f"Unsupported model IR version {model.ir_version} with opset {opset.version}")
    if refused := [node.name for node in model.graph.node if node.op_type == "Refuses"]:
        raise RefusedError(f"RuntimeError: layer {refused[0]} calculate scale failed")


def check_data(options: dict[str, str], model: onnx.ModelProto, batches: int) -> None:
    """Read as many files of each input as there are batches, in their order, by the shapes that were stated."""
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [given.name for given in model.graph.input if given.name not in weights]
    shapes = [entry.rpartition(":") for entry in options["input_shape"].split(";")]
    folders, types = options["data_dir"].split(";"), options["data_types"].split(";")
    if [name for name, _, _ in shapes] != names or not len(folders) == len(types) == len(names):
        raise RefusedError(f"The model has the inputs {names}; stated are {options['input_shape']}")
    for (_, _, shape), folder, kind in zip(shapes, folders, types, strict=True):
        files = sorted(Path(folder).iterdir())
        if len(files) != batches:
            raise RefusedError(f"{folder} has {len(files)} files for {batches} batches")
        for file in files:
            count = np.frombuffer(file.read_bytes(), kind).size
            if count != math.prod(map(int, shape.split(","))):
                raise RefusedError(f"{file} has {count} values, which are no {shape}")


def is_layer(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Return whether a node is a convolution or a product with a constant weight."""
    return node.op_type in {"Conv", "Gemm", "MatMul"} and node.input[1] in {
        each.name for each in model.graph.initializer
    }


def deploy(model: onnx.ModelProto, layers: set[str]) -> onnx.ModelProto:
    """Return the model that ATC compiles."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    nodes = []
    for node in made.graph.node:
        if node.name not in layers:
            nodes.append(node)
            continue
        given, (result,) = node.input[0], node.output
        whole, scale = rounded(numpy_helper.to_array(tensors[node.input[1]]))
        made.graph.initializer.append(numpy_helper.from_array(whole, f"{node.name}.weight"))
        made.graph.initializer.append(numpy_helper.from_array(np.array([scale], np.float32), f"{node.name}.scale"))
        quant = helper.make_node("AscendQuant", [given], [f"{node.name}.quant"], name=f"{node.name}.quant", scale=1.0)
        node.input[0], node.input[1], node.output[0] = f"{node.name}.quant", f"{node.name}.weight", f"{node.name}.int32"
        dequant = helper.make_node(
            "AscendDequant", [node.output[0], f"{node.name}.scale"], [result], f"{node.name}.dequant"
        )
        nodes += [quant, node, dequant]
    made.graph.ClearField("node")
    made.graph.node.extend(nodes)
    return made


def fake(model: onnx.ModelProto, layers: set[str]) -> onnx.ModelProto:
    """Return the model that ONNX Runtime runs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    changed = {node.input[1] for node in made.graph.node if node.name in layers}
    for tensor in made.graph.initializer:
        if tensor.name in changed:
            whole, scale = rounded(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array((whole * scale).astype(np.float32), tensor.name))
    return made


def rounded(weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a weight in integers, and its scale."""
    scale = float(np.abs(weight).max()) / 127 or 1.0
    return np.round(weight / scale).astype(np.int8), scale


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RefusedError as refusal:
        sys.stdout.write(f"[ERROR] {refusal}\n")
        sys.exit(1)
