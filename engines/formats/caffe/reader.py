"""Reads a pair of prototxt and caffemodel; the truth is the net itself, computed layer by layer by Caffe's rules."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format

from engines.failures import EngineFailure
from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.blobs import check_weights
from engines.formats.caffe.caffemodel import read_caffemodel
from engines.formats.caffe.description import inputs_of
from engines.formats.caffe.detection import advice
from engines.formats.caffe.kinds import ALIASES, DETECTIONS, INPUT
from engines.formats.caffe.net import Net, load_net, with_outputs
from engines.formats.caffe.pairs import weights_beside
from engines.formats.caffe.prototxt import read_prototxt
from engines.formats.caffe.reference import Shapes, output_names, run, shapes_of
from engines.formats.caffe.sizes import bound_to_size
from engines.formats.caffe.writer import write_onnx
from engines.formats.protocol import ReadJob
from engines.formats.source import Source, SourceGraph
from engines.spec.declared_inputs import check_declared, only_size
from engines.tensors import Array
from engines.tensors.inputs import active_steps, batched_network_inputs
from engines.tensors.signature import Signature, TensorSpec

log = logging.getLogger(__name__)

NATIVE = "caffe"
"""The native form: a folder with `model.prototxt`, upgraded and without layers of training, and `model.caffemodel`."""


def stated_inputs(path: Path) -> Sequence[TensorSpec]:
    """Return the inputs that a net states; raises as `load_net`."""
    return inputs_of(load_net(path))


def read_caffe(path: Path, job: ReadJob) -> Source:
    """Read a net and the weights beside it.

    Raises:
        EngineFailure: INVALID_MODEL, UNSUPPORTED_OPERATOR or WEIGHTS_MISMATCH naming the layer and its line;
            INVALID_SPEC for declared inputs that are not the net's.
    """
    net, file = load_net(path), weights_beside(path)
    weights = read_caffemodel(file)
    check_weights(net, weights, file.name)
    if job.component.output_names:
        net = with_outputs(net, job.component.output_names)
    inputs = _network_inputs(net, job)
    low = shapes_of(net, weights, {spec.name: spec.min for spec in inputs})
    high = shapes_of(net, weights, {spec.name: spec.max for spec in inputs})
    names = output_names(net)
    log.info("%s: %d layers, weights of %d in '%s'", path.name, len(net.steps), len(weights), file.name)

    def runner(values: Sequence[Array]) -> list[Array]:
        return run(net, weights, {spec.name: value for spec, value in zip(inputs, values, strict=True)})

    def graph() -> SourceGraph:
        write_onnx(net, weights, low, high, job.onnx_path)
        return SourceGraph(job.onnx_path, "Lathe's reader of Caffe")

    runner(job.arguments)
    detections = [step for step in net.steps if step.kind == DETECTIONS]
    native = {} if detections or job.component.output_names else {NATIVE: _native(path, file, net, low, job)}
    return Source(
        Signature(tuple(inputs), tuple(_output(name, low[value], high[value]) for name, value in names.items())),
        graph,
        runner,
        None,
        active_steps(job.component.inputs),
        files=native,
        notes=tuple(advice(step) for step in detections),
    )


def _network_inputs(net: Net, job: ReadJob) -> list[TensorSpec]:
    """Return the declared inputs, which must be those of the net."""
    try:
        check_declared(job.component.model_copy(update={"output_names": ()}), Signature(inputs_of(net), ()))
    except EngineFailure as failure:
        if step := bound_to_size(net):
            failure.suggested_fix += only_size(f"{step.where}, of the type {step.kind}")
        raise
    return list(batched_network_inputs(job.component.inputs, job.component.largest_batch))


def _output(name: str, low: tuple[int, ...], high: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name, "float32", low, low, high)


def _native(path: Path, weights: Path, net: Net, shapes: Shapes, job: ReadJob) -> Path:
    """Return a folder with the net as Caffe's newest version writes it, its inputs stated, and its weights."""
    folder = job.onnx_path.parent / NATIVE
    folder.mkdir(exist_ok=True)
    text = read_prototxt(path)
    used = {step.name for step in net.steps}
    written = messages.NetParameter(name=text.head.name)
    for name in net.inputs:
        source = written.layer.add(name=name, type=INPUT, top=[name])
        source.input_param.shape.add(dim=shapes[name])
    written.layer.extend(
        layer.message for layer in text.layers if layer.message.name in used or layer.message.type in ALIASES
    )
    (folder / "model.prototxt").write_text(text_format.MessageToString(written), encoding="utf-8")
    target = folder / "model.caffemodel"
    target.unlink(missing_ok=True)
    target.symlink_to(weights.resolve())
    return folder
