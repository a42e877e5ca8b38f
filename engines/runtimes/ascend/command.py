"""The command line of ATC for a source: one writing of every option, in a folder where all paths are relative.

ATC takes letters, digits and `_-.` in paths. The folders of tasks may have other characters, so it is started in the
folder of its files, and is given their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.runtimes.ascend.gears import DIMS, Shapes, shapes_of
from engines.runtimes.ascend.options import (
    LEVELS,
    PASSED_ON,
    check_together,
    levels,
    precision_option,
    wrong,
)
from engines.tensors.signature import TensorSpec

CAFFE, FROZEN_GRAPH, ONNX = "caffe", "frozen_graph", "graph"
"""Kinds of sources that ATC reads, by the names of a source's forms."""
OUTPUT = "model"
"""Name of the offline model, without its suffix."""
KEPT_FILE, MODES_FILE, AIPP_FILE = "keep_dtype.cfg", "op_precision_mode.ini", "aipp.cfg"


@dataclass(frozen=True)
class Kind:
    """What ATC wants to know of a kind of source.

    Attributes:
        framework: Value of `--framework`.
        layouts: Formats of inputs that it takes.
        images: The format of inputs with four axes that it assumes.
        volumes: The format of inputs with five axes; empty if it takes none.
    """

    framework: int
    layouts: tuple[str, ...]
    images: str
    volumes: str = ""


KINDS = {
    CAFFE: Kind(0, ("NCHW", "ND"), "NCHW"),
    FROZEN_GRAPH: Kind(3, ("NCHW", "NHWC", "ND", "NCDHW", "NDHWC"), "NHWC", "NDHWC"),
    ONNX: Kind(5, ("NCHW", "ND", "NCDHW"), "NCHW", "NCDHW"),
}


@dataclass(frozen=True)
class Material:
    """The source as ATC reads it: files in the folder that it is started in.

    Attributes:
        kind: One of `KINDS`.
        model: Name of the file of the network.
        weights: Name of the file of Caffe's weights.
        inputs: Inputs of the form, in order, by the names in the file.
        outputs: The names of the outputs that the form gives, if they have to be stated.
        aipp: Name of the file of AIPP's operations, if AIPP prepares the inputs.
    """

    kind: str
    model: str
    inputs: tuple[TensorSpec, ...]
    weights: str = ""
    outputs: tuple[str, ...] = ()
    aipp: str = ""


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        arguments: Options of ATC.
        files: Contents of the files that it names, by name.
        shapes: The shapes that the form is compiled for.
        soc: The chip.
    """

    arguments: tuple[str, ...]
    files: Mapping[str, str]
    shapes: Shapes
    soc: str


def atc_command(material: Material, soc: str, precision: str, knobs: Mapping[str, str], *, second: bool) -> Command:
    """Return the command line that compiles a source.

    Args:
        material: The source.
        soc: The chip, as ATC names it.
        precision: The template's.
        knobs: The user's options, each checked by itself.
        second: Whether this ATC knows `--precision_mode_v2`.

    Raises:
        EngineFailure: INVALID_SPEC for inputs without bounds; InvalidField naming the option that does not fit.
    """
    check_together(knobs)
    kind = KINDS[material.kind]
    layout = _layout(kind, material, knobs)
    shapes = shapes_of(material.inputs, layout, knobs)
    if shapes.kind == DIMS:
        layout = _for_dims(knobs)
    if material.aipp and (shapes.kind == DIMS or layout not in {"NCHW", "NHWC"}):
        raise wrong("input_format", f"AIPP prepares inputs in NCHW or NHWC with no other axes open, not {layout}")
    mode, value = precision_option(precision, knobs, second=second)
    options: dict[str, str] = {
        "mode": "0",
        "framework": str(kind.framework),
        "model": material.model,
        "weight": material.weights,
        "output": OUTPUT,
        "soc_version": soc,
        "input_format": layout,
        "input_shape": shapes.inputs,
        shapes.kind or "dynamic_dims": shapes.value if shapes.kind else "",
        mode: value,
        "insert_op_conf": material.aipp,
        "out_nodes": ";".join(material.outputs),
        "log": _most(levels(knobs)),
    }
    options |= {name: knobs[name] for name in PASSED_ON if name in knobs}
    files = _files(knobs)
    options |= {name.rpartition(".")[0]: name for name in files}
    arguments = tuple(f"--{name}={text}" for name, text in options.items() if text)
    return Command(arguments, files, shapes, soc)


def _layout(kind: Kind, material: Material, knobs: Mapping[str, str]) -> str:
    stated = knobs.get("input_format", "")
    if stated and stated not in kind.layouts:
        raise wrong("input_format", f"ATC takes {', '.join(kind.layouts)} for this source, not {stated}")
    ranks = {len(spec.opt) for spec in material.inputs}
    if stated or ranks == {4} or material.aipp:
        return stated or kind.images
    return kind.volumes if ranks == {5} and kind.volumes else "ND"


def _for_dims(knobs: Mapping[str, str]) -> str:
    if knobs.get("input_format", "ND") != "ND":
        raise wrong("input_format", f"profiles of any dimensions need ND, not {knobs['input_format']}")
    return "ND"


def _most(wanted: frozenset[str]) -> str:
    """Return the level that tells all that is wanted: ATC takes one, and tells what is graver, too."""
    return next((level for level in LEVELS if level in wanted), "null")


def _files(knobs: Mapping[str, str]) -> dict[str, str]:
    files = {}
    if kept := knobs.get("keep_dtype"):
        files[KEPT_FILE] = "".join(f"{name}\n" for name in kept.split(";"))
    if modes := knobs.get("op_precision_mode"):
        files[MODES_FILE] = "[ByOpType]\n" + "".join(f"{entry}\n" for entry in modes.split(";"))
    return files


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files that a command line names."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def words(arguments: Sequence[str]) -> str:
    """Return a command line for people, who may repeat it in a shell."""
    return " ".join(["atc", *(f'"{each}"' if set(each) & set(";~ ") else each for each in arguments)])
