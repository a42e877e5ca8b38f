"""A stand-in for ATC, for tests alone: it compiles nothing.

It holds every option against the rules of ATC's source and manual, reads the model's names, ranks and shapes, and
answers with ATC's lines and errors. Its offline model is a text that says what it is. It is written apart from the room
that it tests, from `atc_flags.cc`, `cmd_flag_info.cc`, `main_impl.cc`, `option_utils.cc`, `multi_batch_options.cc` and
`error_registry.cc` of CANN's graph engine, and knows nothing of that room.

Operators that only tests use make it fail where ATC would: `NoParser` (E16002 or E11009), `NoIr` (E10501), `NoKernel`
(EZ3003), `Breaks` (E20001), `Strange` (EZ9999), `Crashes` (a signal), `Sleeps` (never ends).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START = "ATC start working now, please wait for a moment."
SUCCESS = "ATC run success, welcome to the next use."
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
MARK = "A stand-in for an offline model, made in a test. No chip can run it.\n"

RANGES: dict[str, set[str]] = {
    "deterministic": {"0", "1"},
    "virtual_type": {"0", "1"},
    "framework": {"0", "1", "3", "5"},
    "op_debug_level": {"0", "1", "2", "3", "4"},
    "mode": {"0", "1", "3", "5", "6", "7", "30"},
    "log": {"debug", "info", "warning", "error", "null"},
    "buffer_optimize": {"l1_optimize", "l2_optimize", "off_optimize"},
    "op_select_implmode": {"high_precision", "high_performance", "high_precision_for_all", "high_performance_for_all"},
    "precision_mode": {
        *("force_fp16", "force_fp32", "cube_fp16in_fp32out", "allow_mix_precision", "allow_fp32_to_fp16"),
        *("must_keep_origin_dtype", "allow_mix_precision_fp16", "allow_mix_precision_bf16", "allow_fp32_to_bf16"),
    },
    "precision_mode_v2": {
        *("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "cube_hif8", "mixed_hif8"),
    },
}
"""Values of options that have a list of them."""
PLAIN = {
    *("model", "weight", "output", "soc_version", "input_shape", "input_format", "dynamic_batch_size"),
    *("dynamic_image_size", "dynamic_dims", "insert_op_conf", "out_nodes", "output_type", "input_fp16_nodes"),
    *("keep_dtype", "op_precision_mode", "optypelist_for_implmode", "enable_small_channel"),
    "compression_optimize_conf",
}
"""Options whose values are checked by rules."""
LAYOUTS = {"0": ("NCHW", "ND"), "3": ("NCHW", "NHWC", "ND", "NCDHW", "NDHWC"), "5": ("NCHW", "ND", "NCDHW")}
CHIPS = r"Ascend(310|310P[1-9]|310B[1-9]|910[AB]?|910B[1-9](-\d)?|910ProB)"
TYPES = {"FP32", "FP16", "INT8", "INT16", "UINT16", "UINT8", "INT32", "INT64", "UINT32", "UINT64", "DOUBLE"}
NOTHING = "N/A"


class Refusal(Exception):  # noqa: N818 - what ATC answers is an error of the model, not of this program
    """An error of ATC."""

    def __init__(self, code: str, message: str, *, title: str = "Invalid_Argument", solution: str = NOTHING) -> None:
        super().__init__(message)
        self.code, self.message, self.title, self.solution = code, message, title, solution
        self.more: list[str] = []


@dataclass
class Graph:
    """What a model file says: inputs with their shapes, outputs, nodes with their operators."""

    inputs: dict[str, list[int]]
    outputs: set[str]
    nodes: list[tuple[str, str]]
    tops: set[str] = field(default_factory=set)


def answer(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Return exit status and output, as ATC gives them for a command line in a folder."""
    lines = [START]
    try:
        options = parse(arguments)
        level = options.get("log", "null")
        if environment.get("ASCEND_SLOG_PRINT_TO_STDOUT") == "1" and level != "null":
            lines += log_lines(level)
        compile_model(options, folder, environment)
    except Refusal as refusal:
        return 255, "\n".join([*lines, "...", FAILURE, *told(refusal), ""])
    return 0, "\n".join([*lines, "...", SUCCESS, ""])


def told(refusal: Refusal) -> list[str]:
    """Return the lines in which CANN's runtime prints an error: an inner one is told otherwise."""
    stamp = "2026-08-21-10:00:00.000.001"
    heading = f"[PID: 4711] {stamp} {refusal.title}({refusal.code}): "
    if refusal.code.endswith("9999"):
        first = [f"{refusal.code}: Internal error!", f"{refusal.code}{heading} {refusal.message}"]
    else:
        solution = [f"        Solution: {refusal.solution}"] if refusal.solution != NOTHING else []
        first = [heading + refusal.message, *solution]
    traced = ["TraceBack (most recent call last):", *(f"        {each}" for each in refusal.more)]
    return first + (traced if refusal.more else [])


def log_lines(level: str) -> list[str]:
    """Return lines of every level that ATC prints at this one."""
    names = ("DEBUG", "INFO", "WARNING", "ERROR")
    shown = names[[name.lower() for name in names].index(level) :]
    return [
        f"[{name}] GE(4711,atc.bin):2026-08-21-10:00:00.000.00{place} [main_impl.cc:{place}]4711 Check:a line of {name}"
        for place, name in enumerate(names)
        if name in shown
    ]


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """Return the options of a command line."""
    options: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals or name not in {*RANGES, *PLAIN}:
            raise Refusal("E10060", f"Parameter is invalid. Reason: {argument} is no option.")
        if name in options or not value or value[:1].isspace():
            raise Refusal("E10054", f"The required parameter --{name} for ATC is empty.")
        if name in RANGES and value not in RANGES[name]:
            raise Refusal("E10001", f"Value {value} for parameter --{name} is invalid. Reason: not in the valid range.")
        options[name] = value
    return options


def compile_model(options: Mapping[str, str], folder: Path, environment: Mapping[str, str]) -> None:
    """Check everything, and write the stand-in of the offline model."""
    check_required(options, folder)
    check_precision(options)
    check_files(options, folder)
    shapes = parse_shapes(options)
    check_gears(options, shapes)
    framework, soc = options["framework"], options["soc_version"]
    if not re.fullmatch(CHIPS, soc):
        raise Refusal("E10001", f"Value {soc} for parameter --soc_version is invalid. Reason: unknown.")
    chip = re.match(r"Ascend\d+[A-Z]?", soc)
    built_in = Path(environment.get("ASCEND_OPP_PATH", "")) / "built-in/op_impl/ai_core/tbe/config"
    if chip is None or not (built_in / chip[0].lower()).is_dir():
        raise Refusal("E10001", f"Value {soc} for parameter --soc_version is invalid. Reason: no operators of it.")
    if framework == "0" and soc.startswith("Ascend910B"):
        raise Refusal("E10055", "The operation is not supported. Reason: Caffe is not supported.")
    graph = READERS[framework](folder, options)
    check_names(options, shapes, graph, framework)
    check_operators(graph, framework)
    written = {"options": dict(options), "inputs": graph.inputs}
    (folder / f"{options['output']}.om").write_text(MARK + json.dumps(written), encoding="utf-8")


def check_required(options: Mapping[str, str], folder: Path) -> None:
    for name in ("soc_version", "output", "model"):
        if name not in options:
            raise Refusal("E10054", f"The required parameter --{name} for ATC is empty.")
    framework = options.get("framework")
    if framework is None:
        raise Refusal("E10007", "--framework is required. The value must be 0(Caffe) or 3(TensorFlow) or 5(Onnx).")
    if framework == "0" and "weight" not in options:
        raise Refusal("E10008", "--weight must not be empty when --framework is set to 0 (Caffe).")
    for name in ("model", "weight", "output", "insert_op_conf", "keep_dtype", "op_precision_mode"):
        if not re.fullmatch(r"[A-Za-z0-9./_\-]*", options.get(name, "")):
            raise Refusal("E10001", f"Value {options[name]} for parameter --{name} is invalid. Reason: the path.")
    for name in ("model", "weight"):
        if name in options and not (folder / options[name]).is_file():
            raise Refusal("E13026", f"Input path {options[name]} is invalid. Reason: No such file or directory")
    if "input_format" in options and options["input_format"] not in LAYOUTS[framework]:
        raise Refusal("E10001", f"Value {options['input_format']} for parameter --input_format is invalid. Reason: no.")


def check_precision(options: Mapping[str, str]) -> None:
    if "precision_mode" in options and "precision_mode_v2" in options:
        raise Refusal(
            "E10056", "Cannot configure both parameters --precision_mode and --precision_mode_v2 simultaneously."
        )
    if "optypelist_for_implmode" in options and "op_select_implmode" not in options:
        raise Refusal("E10001", "Value  for parameter --op_select_implmode is invalid. Reason: set both.")
    if "op_precision_mode" in options and "op_select_implmode" in options:
        raise Refusal("E10055", "The operation is not supported. Reason: op_select_implmode would be ignored.")
    for entry in options.get("output_type", "FP32").split(";"):
        if entry.rpartition(":")[2] not in TYPES:
            raise Refusal("E10001", f"Value {entry} for parameter --output_type is invalid. Reason: no such type.")
        if ":" in entry and entry.rpartition(":")[0] not in options.get("out_nodes", "").split(";"):
            raise Refusal("E10001", f"Value {entry} for parameter --output_type is invalid. Reason: not in out_nodes.")


def check_files(options: Mapping[str, str], folder: Path) -> None:
    for name in ("keep_dtype", "op_precision_mode", "insert_op_conf"):
        if name in options and not (folder / options[name]).is_file():
            raise Refusal("E10001", f"Value {options[name]} for parameter --{name} is invalid. Reason: it is absent.")
    if "op_precision_mode" in options:
        lines = (folder / options["op_precision_mode"]).read_text().split()
        modes = {line.partition("=")[2] for line in lines if not line.startswith("[")}
        known = {"high_precision", "high_performance", "super_performance", "enable_float_32_execution", "keep_fp16"}
        if lines[0] != "[ByOpType]" or not modes <= {*known, "support_out_of_bound_index"}:
            raise Refusal("E20101", "Value of op_precision_mode for parameter mode is invalid. Reason: unknown.")


def parse_shapes(options: Mapping[str, str]) -> dict[str, list[int]]:
    """Return the shapes of `--input_shape`: -1 is allowed with gears alone here, as the room asks for no ranges."""
    dynamic = any(name in options for name in ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims"))
    shapes: dict[str, list[int]] = {}
    for entry in filter(None, options.get("input_shape", "").split(";")):
        name, colon, text = entry.rpartition(":")
        if not colon or not name.strip():
            raise Refusal("E10002", f"Value {entry} for parameter --input_shape is invalid. Reason: name and value.")
        shape = []
        for extent in text.split(",") if text else []:
            if not re.fullmatch(r"-?\d+", extent):
                raise Refusal("E10002", f"Value {entry} for parameter --input_shape is invalid. Reason: not a digit.")
            if int(extent) <= 0 and not (dynamic and extent == "-1"):
                raise Refusal(
                    "E10011",
                    f"Value {entry} for parameter --input_shape is invalid. Shape values must be positive integers. "
                    f"The error value in the shape is {extent}.",
                )
            shape.append(int(extent))
        shapes[name.strip()] = shape
    return shapes


def check_gears(options: Mapping[str, str], shapes: Mapping[str, list[int]]) -> None:
    kinds = [name for name in ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims") if name in options]
    if len(kinds) > 1:
        raise Refusal(
            "E10009",
            "--dynamic_batch_size, --dynamic_image_size, --input_shape_range, and --dynamic_dims are mutually "
            "exclusive.",
        )
    if not kinds:
        return
    if not shapes:
        raise Refusal("E10004", "Value for --input_shape is empty.")
    (kind,) = kinds
    separator = "," if kind == "dynamic_batch_size" else ";"
    gears = [gear.split(",") for gear in options[kind].split(separator)]
    CHECKS[kind](options, shapes, gears)
    if not all(re.fullmatch(r"\d+", extent) for gear in gears for extent in gear):
        raise Refusal("E10003", f"Value {options[kind]} for parameter --{kind} is invalid. Reason: digits alone.")
    if len(gears) < 2:
        raise Refusal("E10035", f"--{kind} has {len(gears)} profiles, which is less than the minimum 2.")
    if len(gears) > 100:
        raise Refusal("E10036", f"--{kind} has {len(gears)} profiles, which is greater than the maximum 100.")
    if any(extent == "0" for gear in gears for extent in gear):
        raise Refusal("E10038", "Dimension size 0 is invalid. The value must be greater than 0.")
    if len({tuple(gear) for gear in gears}) < len(gears):
        raise Refusal("E10039", f"The --{kind} argument has duplicate profiles.")
    if kind == "dynamic_dims" and "insert_op_conf" in options:
        raise Refusal("E10001", "Value for parameter --insert_op_conf is invalid. Reason: no AIPP with dynamic dims.")


def check_batches(options: Mapping[str, str], shapes: Mapping[str, list[int]], gears: list[list[str]]) -> None:
    if not all(shapes.values()):
        raise Refusal(
            "E10012",
            "--dynamic_batch_size is included, but the dimension count of the dynamic-shape input configured in "
            "--input_shape is less than 1.",
        )
    for shape in shapes.values():
        for place, extent in enumerate(shape[1:], 1):
            if extent < 0:
                raise Refusal(
                    "E10018",
                    f"Value {extent} for shape {place} is invalid. When --dynamic_batch_size is included, only batch "
                    "size N can be -1 in --input_shape.",
                )
    if not any(shape[0] == -1 for shape in shapes.values()):
        raise Refusal("E10031", "none of the nodes specified in --input_shape has a batch size equaling -1.")


def check_sizes(options: Mapping[str, str], shapes: Mapping[str, list[int]], gears: list[list[str]]) -> None:
    places = {"NCHW": [2, 3], "NHWC": [1, 2]}.get(options.get("input_format", "NCHW"))
    if places is None:
        raise Refusal("E10003", "Value for parameter --input_format is invalid. Reason: only NCHW or NHWC.")
    dynamic = [shape for shape in shapes.values() if -1 in shape]
    for shape in dynamic:
        if len(shape) != 4 or [place for place, extent in enumerate(shape) if extent == -1] != places:
            raise Refusal("E10019", "only the height and width axes can be -1 in --input_shape.")
    if not dynamic:
        raise Refusal("E10019", "only the height and width axes can be -1 in --input_shape.")
    if any(len(gear) != 2 for gear in gears):
        raise Refusal("E10020", f"Value {options['dynamic_image_size']} for parameter --dynamic_image_size is invalid.")


def check_dims(options: Mapping[str, str], shapes: Mapping[str, list[int]], gears: list[list[str]]) -> None:
    count = sum(shape.count(-1) for shape in shapes.values())
    if not count or any(len(gear) != count for gear in gears):
        raise Refusal("E10003", f"Value {options['dynamic_dims']} for parameter --dynamic_dims is invalid. Reason: -1.")
    if options.get("input_format") != "ND":
        raise Refusal("E10055", "The operation is not supported. Reason: the manual wants ND.")


CHECKS = {"dynamic_batch_size": check_batches, "dynamic_image_size": check_sizes, "dynamic_dims": check_dims}


def check_names(options: Mapping[str, str], shapes: Mapping[str, list[int]], graph: Graph, framework: str) -> None:
    for name, shape in shapes.items():
        if name not in graph.inputs:
            raise missing(name, "input_shape")
        stated = graph.inputs[name]
        if len(stated) != len(shape):
            raise Refusal(
                "E10049",
                f"Dimension count {len(shape)} configured in --input_shape does not match dimension count "
                f"{len(stated)} of the node.",
            )
    for name in filter(None, options.get("input_fp16_nodes", "").split(";")):
        if name not in graph.inputs:
            raise missing(name, "input_fp16_nodes")
    for name, shape in graph.inputs.items():
        if name not in shapes and any(extent < 1 for extent in shape):
            raise Refusal("E11005", f"The shape is not defined by using --input_shape for input {name}.")
    wanted = [name for name in options.get("out_nodes", "").split(";") if name]
    nodes = {name for name, _ in graph.nodes}
    by_node = [name for name in wanted if re.fullmatch(r".+:\d+", name) and name.rpartition(":")[0] in nodes]
    by_name = [name for name in wanted if name in (graph.tops if framework == "0" else graph.outputs)]
    if wanted and len(by_node) != len(wanted) and (framework == "3" or len(by_name) != len(wanted)):
        absent = next(name for name in wanted if name not in {*by_node, *by_name} or (by_node and by_name))
        raise missing(absent, "out_nodes")


def missing(name: str, option: str) -> Refusal:
    return Refusal(
        "E10016",
        f"Op name {name} specified in --{option} is not found in the model. Confirm whether this node name exists, or "
        "whether the node is not split with the specified delimiter ';'.",
        title="Invalid_Argument_Operator_Name",
        solution="Specify the name of an existing node in the graph.",
    )


def check_operators(graph: Graph, framework: str) -> None:
    failed = [(name, operator) for name, operator in graph.nodes if operator in OPERATORS]
    for name, operator in failed[:1]:
        if operator == "Crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if operator == "Sleeps":
            time.sleep(600)
        refusal = refused(name, operator, framework)
        refusal.more += [refused(other, kind, framework).message for other, kind in failed[1:]]
        refusal.more.append("[Call][ParseOp]parse model failed[FUNC:Parse][FILE:omg.cc][LINE:1]")
        raise refusal


OPERATORS = ("NoParser", "NoIr", "NoKernel", "Breaks", "Strange", "Crashes", "Sleeps", "DetectionOutput")


def refused(name: str, operator: str, framework: str) -> Refusal:
    unsupported = "Not_Supported_Operator"
    if operator == "NoParser" and framework == "0":
        return Refusal(
            "E11009", f"No Caffe parser is registered for Op {name} with Op type {operator}.", title=unsupported
        )
    answers = {
        "NoParser": ("E16002", f"No ONNX parser is registered for optype {operator}."),
        "NoIr": ("E10501", f"IR for Op {name} with optype {operator} is not registered."),
        "NoKernel": ("EZ3003", f"No supported Ops kernel and engine are found for [{name}], optype [{operator}]."),
        "Breaks": ("E20001", f"Operator {name} compilation failed. Optype is {operator}."),
        "DetectionOutput": ("E11008", "Op type DetectionOutput is unsupported."),
        "Strange": ("EZ9999", "Aicore kernel execute failed, device_id=0[FUNC:GetError][FILE:stream.cc][LINE:1131]"),
    }
    code, message = answers[operator]
    return Refusal(code, message, title=unsupported if operator != "Strange" else "Inner_Error")


def read_onnx(folder: Path, options: Mapping[str, str]) -> Graph:
    """Return what an ONNX file says."""
    import onnx

    try:
        model = onnx.load(folder / options["model"], load_external_data=False)
    except Exception:
        raise Refusal("E13005", f"Failed to parse file {options['model']}.") from None
    if len(model.opset_import) != 1:
        raise Refusal(
            "E16005", f"The model has {len(model.opset_import)} --domain_version fields, but only one is allowed."
        )
    if not 11 <= model.opset_import[0].version <= 18:
        raise Refusal("E16002", f"No ONNX parser is registered for optype ai.onnx::{model.opset_import[0].version}.")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {
        entry.name: [dim.dim_value if dim.HasField("dim_value") else -1 for dim in entry.type.tensor_type.shape.dim]
        for entry in model.graph.input
        if entry.name not in weights
    }
    nodes = [(node.name, node.op_type) for node in model.graph.node]
    return Graph(inputs, {entry.name for entry in model.graph.output}, nodes)


def read_caffe(folder: Path, options: Mapping[str, str]) -> Graph:
    """Return what a prototxt says, of `input` with `input_shape` or layers `Input`, one dimension a field."""
    text = (folder / options["model"]).read_text(encoding="utf-8")
    layers = re.findall(r"layer\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", text)
    if not layers:
        raise Refusal("E11022", "Invalid prototxt file.")
    inputs: dict[str, list[int]] = {}
    nodes, tops = [], set()
    declared = re.findall(r'^input:\s*"([^"]+)"', text, re.MULTILINE)
    shapes = [
        list(map(int, re.findall(r"dim:\s*(\d+)", shape)))
        for shape in re.findall(r"^input_shape\s*\{([^}]*)\}", text, re.MULTILINE)
    ]
    inputs |= dict(zip(declared, shapes, strict=True))
    for layer in layers:
        name, operator = (re.findall(rf'{key}:\s*"([^"]+)"', layer)[0] for key in ("name", "type"))
        nodes.append((name, operator))
        tops |= set(re.findall(r'top:\s*"([^"]+)"', layer))
        if operator == "Input":
            inputs[name] = list(map(int, re.findall(r"dim:\s*(\d+)", layer)))
    weights = (folder / options["weight"]).read_bytes()
    for name, operator in nodes:
        if operator in {"Convolution", "InnerProduct"} and name.encode() not in weights:
            raise Refusal(
                "E11029",
                f"Op {name} exists in the model file but is not found in weight file.",
                title="Invalid_Argument_Caffe_Model_Data",
                solution="Try again with a valid Caffe model or weight file. Ensure that the two files match.",
            )
    return Graph(inputs, tops, nodes, tops)


def read_frozen(folder: Path, options: Mapping[str, str]) -> Graph:
    """Return what a frozen graph of TensorFlow says."""
    from engines.formats.tensorflow.messages_pb2 import GraphDef

    graph = GraphDef()
    try:
        graph.ParseFromString((folder / options["model"]).read_bytes())
    except Exception:
        raise Refusal("E13005", f"Failed to parse file {options['model']}.") from None
    nodes = [(node.name, node.op) for node in graph.node]
    inputs = {
        node.name: [dim.size for dim in node.attr["shape"].shape.dim] for node in graph.node if node.op == "Placeholder"
    }
    return Graph(inputs, set(), nodes)


READERS = {"0": read_caffe, "3": read_frozen, "5": read_onnx}


if __name__ == "__main__":
    status, output = answer(sys.argv[1:], Path.cwd(), os.environ)
    sys.stdout.write(output)
    sys.stdout.flush()
    sys.exit(status)
