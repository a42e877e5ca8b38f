"""The form of a source that ATC reads, and its files in the folder that ATC is started in.

What a package does to images before the network is done by AIPP, the chip's own unit, or stands in the ONNX graph. ATC
reads native forms, which have no preprocessing, if there is none or AIPP does it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engines.failures import EngineFailure, FailureReason, InvalidField
from engines.runtimes.ascend.aipp import BY_CHIP, aipp_ops, aipp_text, taken
from engines.runtimes.ascend.aipp_rules import violations
from engines.runtimes.ascend.command import AIPP_FILE, CAFFE, FROZEN_GRAPH, KINDS, ONNX, Material
from engines.runtimes.ascend.gears import DIMS, shapes_of
from engines.runtimes.ascend.onnx_file import write_for_atc
from engines.runtimes.ascend.options import BY_GRAPH, NATIVE, READ_GRAPH, wrong
from engines.runtimes.ascend.toolchain import family
from engines.runtimes.source import BuildSource
from engines.tensors.preprocessing import Preprocessing
from engines.tensors.signature import TensorSpec

log = logging.getLogger(__name__)

_WITHOUT_CAFFE = frozenset({"Ascend910B"})
"""Families whose ATC reads no Caffe: Atlas A2, by the manual's page on `--framework`."""


@dataclass(frozen=True)
class Plan:
    """How a source goes to ATC.

    Attributes:
        kind: The form of it that ATC reads.
        inputs: Inputs of that form, in the order of the package's.
        make_graph: Returns the ONNX file, if that is the form.
        aipp: Content of AIPP's file; empty if AIPP has nothing to do.
        orders: How the bytes of each input of the package lie for AIPP: `nv12`, `nhwc` for channels that move last, or
            nothing if they stay.
        taken: Inputs of the package in place of the source's, if a user's own file of AIPP takes others.
    """

    kind: str
    inputs: tuple[TensorSpec, ...]
    make_graph: Callable[[], Path]
    aipp: str
    orders: tuple[str, ...]
    taken: tuple[TensorSpec, ...] = ()


def plan(source: BuildSource, soc: str, precision: str, knobs: Mapping[str, str]) -> Plan:
    """Return how a source goes to ATC.

    Raises:
        InvalidField: Options or preprocessing that AIPP cannot carry out, if it has to.
        EngineFailure: INVALID_SPEC if ATC reads no form of the source.
    """
    bare = source.unprocessed
    steps = bare.preprocessing if bare else {}
    aipp, prepared = _own_aipp(source, knobs), ""
    orders = tuple("" for _ in source.signature.inputs)
    if steps and bare and not aipp:
        aipp = _aipp(source, soc, precision, knobs)
        prepared = "" if aipp else ", ".join(sorted(steps))
        if aipp:
            orders = tuple(_order(spec, steps.get(spec.name)) for spec in bare.inputs)
    kind = _kind(source, soc, prepared, knobs)
    inputs, make_graph = source.signature.inputs, source.graph
    if bare and not prepared:
        inputs, make_graph = bare.inputs, bare.make_graph
    images = taken(aipp, inputs) if "insert_op_conf" in knobs else {}
    if images:
        orders = tuple(images[place][1] if place in images else "" for place in range(len(inputs)))
    own = [images[place][0] if place in images else spec for place, spec in enumerate(source.signature.inputs)]
    return Plan(kind, inputs, make_graph, aipp, orders, tuple(own) if images else ())


def _own_aipp(source: BuildSource, knobs: Mapping[str, str]) -> str:
    """Return the user's own file of AIPP; empty if there is none."""
    text = knobs.get("insert_op_conf", "")
    if not text:
        return ""
    if source.unprocessed and source.unprocessed.preprocessing:
        raise wrong(
            "insert_op_conf", "the inputs have preprocessing, which AIPP is given already; leave out one of them"
        )
    inputs = source.unprocessed.inputs if source.unprocessed else source.signature.inputs
    if found := violations(text, inputs):
        raise wrong("insert_op_conf", "; ".join(found))
    return text


def _aipp(source: BuildSource, soc: str, precision: str, knobs: Mapping[str, str]) -> str:
    """Return AIPP's file for the preprocessing of a source; empty if the graph does it."""
    wanted = knobs.get("aipp", "")
    bare = source.unprocessed
    if bare is None or wanted == BY_GRAPH or (precision == "FP32" and wanted != BY_CHIP):
        return ""  # AIPP computes in float16
    layout = knobs.get("input_format", KINDS[_kind(source, soc, "", knobs)].images)
    try:
        ops = aipp_ops(source.signature.inputs, bare.inputs, bare.preprocessing, layout)
        shapes = shapes_of(bare.inputs, layout, knobs)
        if shapes.kind == DIMS:
            raise wrong("aipp", "axes of the inputs vary beside batch, or height and width, which AIPP does not take")
    except InvalidField as failure:
        if wanted == BY_CHIP:
            raise
        log.info("The graph prepares the inputs, not AIPP: %s", failure.objection)
        return ""
    return aipp_text(ops)


def _order(network: TensorSpec, steps: Preprocessing | None) -> str:
    if steps is None:
        return ""
    if steps.takes_nv12:
        return "nv12"
    return "nhwc" if len(network.opt) == 4 and network.opt[1] == 3 else ""


def _kind(source: BuildSource, soc: str, prepared: str, knobs: Mapping[str, str]) -> str:
    wanted = knobs.get("reader", "")
    native = next((kind for kind in (CAFFE, FROZEN_GRAPH) if kind in source.offers), "")
    obstacle = _obstacle(source, native, soc, prepared)
    if wanted == NATIVE and obstacle:
        raise wrong("reader", f"ATC cannot read this source itself: {obstacle}", "Leave the option out.")
    if native and not obstacle and wanted != READ_GRAPH:
        return native
    if ONNX not in source.offers and native and obstacle:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"ATC cannot read the source: {obstacle}; and the source does not become an ONNX graph.",
            suggested_fix="Upload the model as ONNX, or choose another device in the template.",
        )
    source.form_for("ATC", (ONNX,))
    return ONNX


def _obstacle(source: BuildSource, native: str, soc: str, prepared: str) -> str:
    if not native:
        return f"it offers {', '.join(source.offers)}"
    if native == CAFFE and family(soc) in _WITHOUT_CAFFE:
        return f"ATC reads no Caffe for {family(soc)}"
    return f"the inputs {prepared} have preprocessing, which stands in the graph" if prepared else ""


def gather(source: BuildSource, chosen: Plan, precision: str, knobs: Mapping[str, str], folder: Path) -> Material:
    """Put a source's files into a folder, under names that ATC takes.

    Raises:
        EngineFailure: INVALID_MODEL for a folder that is no Caffe pair, and what preparing an ONNX file raises.
        InvalidField: Another number of outputs than the source has.
    """
    outputs = tuple(spec.name for spec in source.signature.outputs)
    _check_outputs(knobs, outputs)
    aipp = AIPP_FILE if chosen.aipp else ""
    if aipp:
        (folder / aipp).write_text(chosen.aipp, encoding="utf-8")
    if chosen.kind == CAFFE:
        network, weights = _pair(source.files[CAFFE])
        shutil.copyfile(network, folder / "model.prototxt")
        shutil.copyfile(weights, folder / "model.caffemodel")
        return Material(CAFFE, "model.prototxt", chosen.inputs, "model.caffemodel", outputs, aipp)
    if chosen.kind == FROZEN_GRAPH:
        shutil.copyfile(source.files[FROZEN_GRAPH], folder / "model.pb")
        nodes = tuple(replace(spec, name=spec.name.partition(":")[0]) for spec in chosen.inputs)
        named = tuple(name if ":" in name else f"{name}:0" for name in outputs)
        return Material(FROZEN_GRAPH, "model.pb", nodes, outputs=named, aipp=aipp)
    return Material(ONNX, write_for_atc(chosen.make_graph(), precision, folder), chosen.inputs, aipp=aipp)


def _pair(folder: Path) -> tuple[Path, Path]:
    found = [sorted(folder.glob(f"*.{suffix}")) for suffix in ("prototxt", "caffemodel")]
    for suffix, paths in zip(("prototxt", "caffemodel"), found, strict=True):
        if len(paths) != 1:
            raise EngineFailure(
                FailureReason.INVALID_MODEL,
                f"A Caffe network is one .prototxt and one .caffemodel; there are {len(paths)} files *.{suffix}.",
                suggested_fix="Upload both files of the network, and no others.",
            )
    return found[0][0], found[1][0]


def _check_outputs(knobs: Mapping[str, str], outputs: tuple[str, ...]) -> None:
    """Refuse another number of outputs than the source has: parity compares them one by one."""
    count = knobs.get("out_nodes", "").count(";") + 1
    if "out_nodes" in knobs and count != len(outputs):
        raise wrong(
            "out_nodes",
            f"it names {count}, and the source has {len(outputs)}: {', '.join(outputs)}",
            "Name the node of each output of the source, in the same order.",
        )
