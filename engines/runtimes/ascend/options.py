"""The options of ATC that users choose, by ATC's own names, and the rules that bind them to a template's precision.

Left out are those that name a file of the user (the room writes the files of `keep_dtype` and `op_precision_mode` from
their values), those that tune with a knowledge base, and those of other chips. Source: `atc_flags.cc`,
`cmd_flag_info.cc`, `option_utils.cc` and the manual's pages on each option, in the repository of CANN's graph engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engines.failures import InvalidField
from engines.runtimes.ascend.aipp import BY_CHIP, own_file_unfit, preparing_unfit
from engines.runtimes.knobs import Knob

FIRST_MODES = {
    "FP32": ("must_keep_origin_dtype",),
    "FP16": (
        "force_fp16",
        "allow_fp32_to_fp16",
        "allow_mix_precision",
        "allow_mix_precision_fp16",
        "cube_fp16in_fp32out",
        "force_fp32",
    ),
    "BF16": ("allow_mix_precision_bf16", "allow_fp32_to_bf16"),
    "INT8": ("force_fp16", "allow_fp32_to_fp16", "allow_mix_precision", "allow_mix_precision_fp16"),
}
"""Values of `--precision_mode` that compute in a precision, the usual one first. `force_fp32` is FP16 by its meaning:
products take float16 first (the manual calls it equal to `cube_fp16in_fp32out`)."""
SECOND_MODES = {
    "FP32": ("origin",),
    "FP16": ("fp16", "mixed_float16", "cube_fp16in_fp32out"),
    "BF16": ("mixed_bfloat16",),
    "INT8": ("fp16", "mixed_float16"),
}
"""Values of `--precision_mode_v2`, likewise. The manual excludes modes of high precision for quantized graphs."""
LEVELS = ("debug", "info", "warning", "error")
"""Levels of ATC's log, from the one that tells most."""
NO_LOG = "none"
FORMATS = ("NCHW", "NHWC", "ND", "NCDHW", "NDHWC")
_TYPES = ("FP32", "FP16", "INT8", "INT16", "UINT16", "UINT8", "INT32", "INT64", "UINT32", "UINT64", "DOUBLE")
_OPERATOR_MODES = (
    "high_precision",
    "high_performance",
    "super_performance",
    "enable_float_32_execution",
    "support_out_of_bound_index",
    "keep_fp16",
)
_NUMBERS = re.compile(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*")
_ENTRY = re.compile(r"[^;,\s][^;,]*")
"""A name in a list. ATC takes no value that begins with a blank."""


def _gears(dimensions: str) -> str:
    return f"write its profiles like '{dimensions}', each dimension a whole number above 0"


def _batches(value: str) -> str:
    return "" if _NUMBERS.fullmatch(value) else _gears("1,2,8")


def _sizes(value: str) -> str:
    fits = all(_NUMBERS.fullmatch(size) and size.count(",") == 1 for size in value.split(";"))
    return "" if fits else _gears("416,416;832,832")


def _dims(value: str) -> str:
    return "" if all(_NUMBERS.fullmatch(profile) for profile in value.split(";")) else _gears("1,128;8,128")


def _names(separator: str) -> str:
    return f"write names with '{separator}' between them, without blanks at their beginning"


def _listed(value: str) -> str:
    return "" if all(_ENTRY.fullmatch(name) for name in value.split(";")) else _names(";")


def _operators(value: str) -> str:
    return "" if all(_ENTRY.fullmatch(name) for name in value.split(",")) else _names(",")


def _output_types(value: str) -> str:
    if value in _TYPES:
        return ""
    for entry in value.split(";"):
        node, _, rest = entry.partition(":")
        place, _, kind = rest.rpartition(":")
        if not _ENTRY.fullmatch(node) or not place.isdecimal() or kind not in _TYPES:
            return f"it is one of {', '.join(_TYPES)}, or 'node:0:FP16;node:1:FP32'"
    return ""


def _operator_modes(value: str) -> str:
    for entry in value.split(";"):
        operator, _, mode = entry.partition("=")
        if not _ENTRY.fullmatch(operator) or mode not in _OPERATOR_MODES:
            return f"write it like 'SoftmaxV2=high_precision;Exp=high_performance', with {', '.join(_OPERATOR_MODES)}"
    return ""


def _levels(value: str) -> str:
    chosen = value.split(",")
    fits = value == NO_LOG or (set(chosen) <= set(LEVELS) and len(set(chosen)) == len(chosen))
    return "" if fits else f"it is '{NO_LOG}', or some of {', '.join(LEVELS)} with commas between them"


def _chip(value: str) -> str:
    return "" if re.fullmatch(r"Ascend\d+\w*", value) else "write it as `npu-smi info` names the chip: 'Ascend910B3'"


def _blank(value: str) -> str:
    return "" if value.strip() else "give the content of the file: aipp_op { … }"


def _values(*values: str) -> dict[str, str]:
    return {value: value for value in values}


def _modes(modes: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return _values(*dict.fromkeys(mode for each in modes.values() for mode in each))


BY_GRAPH = "graph"
NATIVE = "native"
READ_GRAPH = "graph"
KNOBS = (
    Knob("soc_version", "chips whose exact name differs from the catalog's: Ascend910B3", objection=_chip),
    Knob(
        "reader",
        "sources that ATC reads itself: Caffe, TensorFlow's frozen graphs",
        {NATIVE: "read by ATC", READ_GRAPH: "read from ONNX"},
    ),
    Knob(
        "aipp",
        "saying who prepares the images: the chip's AIPP, or the graph",
        {BY_CHIP: "prepared by AIPP", BY_GRAPH: "prepared in the graph"},
        mismatch=preparing_unfit,
    ),
    Knob(
        "insert_op_conf",
        "a file of AIPP of one's own, as text; the package takes what it says",
        objection=_blank,
        mismatch=own_file_unfit,
    ),
    Knob("precision_mode", "choosing how a precision is reached, for any CANN", _modes(FIRST_MODES)),
    Knob("precision_mode_v2", "choosing how a precision is reached, since CANN 7", _modes(SECOND_MODES)),
    Knob("dynamic_batch_size", "stating the batches that the form is compiled for: 1,2,8", objection=_batches),
    Knob("dynamic_image_size", "stating its image sizes, height and width: 416,416;832,832", objection=_sizes),
    Knob("dynamic_dims", "stating its profiles, one extent for each axis that varies: 1,128;8,128", objection=_dims),
    Knob("input_format", "sources whose inputs are not in the order that ATC assumes", _values(*FORMATS)),
    Knob("out_nodes", "ending the network at other nodes or outputs: node:0;node:1", objection=_listed),
    Knob("output_type", "outputs of another type, all or some: FP16, node:0:FP16", objection=_output_types),
    Knob("input_fp16_nodes", "inputs that arrive in float16: x;mask", objection=_listed),
    Knob(
        "keep_dtype",
        "nodes that keep the types of the source: node;OpType::Softmax, whatever the mode is",
        objection=_listed,
    ),
    Knob("op_precision_mode", "the implementation of operators: SoftmaxV2=high_precision", objection=_operator_modes),
    Knob(
        "op_select_implmode",
        "the implementation of all operators that have two",
        _values("high_precision", "high_performance", "high_precision_for_all", "high_performance_for_all"),
    ),
    Knob(
        "optypelist_for_implmode",
        "the operators that op_select_implmode is for: Pooling,SoftmaxV2",
        objection=_operators,
    ),
    Knob("buffer_optimize", "telling faults of data buffers apart", _values("l2_optimize", "off_optimize")),
    Knob("enable_small_channel", "first convolutions with few channels", _values("0", "1")),
    Knob("deterministic", "results that are equal in every run", _values("0", "1")),
    Knob("op_debug_level", "keeping the files of compiled operators", _values("0", "1", "2", "3", "4")),
    Knob("virtual_type", "forms that run on a part of a chip, too", _values("0", "1")),
    Knob("log", "the levels of ATC's log in the task's: none, or error,info", objection=_levels),
)
PASSED_ON = (
    *("out_nodes", "output_type", "input_fp16_nodes", "op_select_implmode", "optypelist_for_implmode"),
    *("buffer_optimize", "enable_small_channel", "deterministic", "op_debug_level", "virtual_type"),
)
"""Knobs whose values are those of ATC's options of the same name."""
DYNAMIC = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims")


def wrong(option: str, objection: str, fix: str = "") -> InvalidField:
    """Return the failure of an option's value; the field is the template's."""
    return InvalidField(f"template.runtime_options[{option}]", objection, fix)


def precision_option(precision: str, knobs: Mapping[str, str], *, second: bool) -> tuple[str, str]:
    """Return ATC's option for a precision, and its value.

    Args:
        precision: The template's.
        knobs: The user's.
        second: Whether to use `--precision_mode_v2` if the user names neither.

    Raises:
        InvalidField: Both generations are given, or a mode that computes in another precision.
    """
    stated = [name for name in ("precision_mode", "precision_mode_v2") if name in knobs]
    if len(stated) > 1:
        raise wrong("precision_mode_v2", "it cannot stand beside precision_mode; ATC takes one of the two")
    name = stated[0] if stated else "precision_mode_v2" if second else "precision_mode"
    offered = (SECOND_MODES if name == "precision_mode_v2" else FIRST_MODES)[precision]
    mode = knobs.get(name, offered[0])
    if mode not in offered:
        raise wrong(
            name,
            f"'{mode}' does not compute in {precision}, which the template asks for; {', '.join(offered)} do",
            "Choose one of these, or another precision.",
        )
    return name, mode


def check_together(knobs: Mapping[str, str]) -> None:
    """Refuse options that ATC does not take together.

    Raises:
        InvalidField: Names the option that is one too many.
    """
    dynamic = [name for name in DYNAMIC if name in knobs]
    if len(dynamic) > 1:
        raise wrong(dynamic[1], f"it cannot stand beside {dynamic[0]}; ATC takes one of {', '.join(DYNAMIC)}")
    if "optypelist_for_implmode" in knobs and "op_select_implmode" not in knobs:
        raise wrong("optypelist_for_implmode", "it needs op_select_implmode, which says what these operators do")
    if "optypelist_for_implmode" in knobs and knobs["op_select_implmode"].endswith("_for_all"):
        raise wrong("optypelist_for_implmode", "with it, op_select_implmode is high_precision or high_performance")
    if "op_precision_mode" in knobs and "op_select_implmode" in knobs:
        raise wrong("op_select_implmode", "ATC ignores it beside op_precision_mode; keep one of the two")
    if ":" in knobs.get("output_type", "") and "out_nodes" not in knobs:
        raise wrong("output_type", "types of single nodes need out_nodes, which names the same nodes")


def levels(knobs: Mapping[str, str]) -> frozenset[str]:
    """Return the levels of ATC's log that the user wants; warnings and errors unless told."""
    stated = knobs.get("log", "warning,error")
    return frozenset() if stated == NO_LOG else frozenset(stated.split(","))
