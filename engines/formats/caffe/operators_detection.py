"""The ONNX operators of SSD's layers."""

from __future__ import annotations

from collections.abc import Sequence

from engines.formats.caffe.detection import CENTER_SIZE, check_detections, priors
from engines.formats.caffe.net import Step
from engines.formats.caffe.writer import Writer
from engines.tensors import Array


def normalize(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    """Append SSD's normalization of each place, or of the whole image, to length 1."""
    said, bottom = step.layer.norm_param, step.bottoms[0]
    rank = len(graph.low[bottom])
    axes = graph.whole(range(1, rank) if said.across_spatial else [1])
    squares = graph.add("ReduceSumSquare", [bottom, axes], keepdims=1)
    length = graph.add("Sqrt", [graph.add("Add", [squares, graph.constant(float(said.eps))])])
    found = graph.add("Div", [bottom, length])
    return [graph.add("Mul", [found, graph.constant(w[0].reshape(-1, *[1] * (rank - 2)))])]


def prior_box(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    """Append the boxes of a feature map: a constant."""
    for bottom in step.bottoms:
        for axis in (2, 3):
            graph.fixed(bottom, axis)
    boxes = priors(step, graph.low[step.bottoms[0]], graph.low[step.bottoms[1]])
    return [graph.add("Identity", [graph.constant(boxes)])]


def detections(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    """Append the decoding of boxes; suppression is not part of the package's graph."""
    said = step.layer.detection_output_param
    location, confidence, prior = step.bottoms[:3]
    count = check_detections(step, *(graph.low[name] for name in step.bottoms[:3]))
    batch = graph.extents(location)[0]
    code = graph.reshape(location, [batch, (count, count), (4, 4)], graph.extents(location))
    classes = said.num_classes
    scores = graph.reshape(confidence, [batch, (count, count), (classes, classes)], graph.extents(confidence))
    halves = [f"{step.tops[0]}/corners", f"{step.tops[0]}/variance"]
    graph.add("Split", [graph.add("Reshape", [prior, graph.whole([2, count, 4])])], halves, axis=0, num_outputs=2)
    if not said.variance_encoded_in_target:
        code = graph.add("Mul", [code, halves[1]])
    if said.code_type != CENTER_SIZE:
        return [graph.add("Add", [halves[0], code]), scores]
    ends = [f"{step.tops[0]}/least", f"{step.tops[0]}/most"]
    graph.add("Split", halves[:1], ends, axis=-1, num_outputs=2)
    moves = [f"{step.tops[0]}/move", f"{step.tops[0]}/grow"]
    graph.add("Split", [code], moves, axis=-1, num_outputs=2)
    half = graph.constant(0.5)
    size = graph.add("Sub", [ends[1], ends[0]])
    middle = graph.add("Mul", [graph.add("Add", ends), half])
    center = graph.add("Add", [graph.add("Mul", [moves[0], size]), middle])
    reach = graph.add("Mul", [graph.add("Mul", [graph.add("Exp", [moves[1]]), size]), half])
    corners = [graph.add("Sub", [center, reach]), graph.add("Add", [center, reach])]
    return [graph.add("Concat", corners, axis=-1), scores]
