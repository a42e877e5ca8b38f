"""SSD's layers: boxes that stand at every place of a feature map, and their decoding. NumPy alone.

Source: weiliu89/caffe, branch ssd: prior_box_layer.cpp, detection_output_layer.cpp and bbox_util.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.failures import refused, unsupported
from engines.formats.caffe.net import Step
from engines.tensors import Array

CENTER_SIZE = messages.PriorBoxParameter.CENTER_SIZE
CORNER = messages.PriorBoxParameter.CORNER
_SAME = 1e-6


def priors(step: Step, feature: Sequence[int], image: Sequence[int]) -> Array:
    """Return what a PriorBox writes: (1, 2, boxes × 4) corners as fractions of the image, and their variances.

    Args:
        step: The layer.
        feature: Shape of its first input, the feature map.
        image: Shape of its second input, the image.

    Raises:
        EngineFailure: INVALID_MODEL for parameters that make no box.
    """
    said = step.layer.prior_box_param
    height, width = said.img_h or said.img_size or image[2], said.img_w or said.img_size or image[3]
    step_h = said.step_h or said.step or height / feature[2]
    step_w = said.step_w or said.step or width / feature[3]
    sizes = np.array(list(_sizes(step, said)), dtype=np.float32)
    center_y = (np.arange(feature[2], dtype=np.float32) + said.offset) * np.float32(step_h)
    center_x = (np.arange(feature[3], dtype=np.float32) + said.offset) * np.float32(step_w)
    shape = (feature[2], feature[3], len(sizes))
    x = np.broadcast_to(center_x[None, :, None], shape)
    y = np.broadcast_to(center_y[:, None, None], shape)
    half_w, half_h = sizes[:, 0] / 2, sizes[:, 1] / 2
    corners = [(x - half_w) / width, (y - half_h) / height, (x + half_w) / width, (y + half_h) / height]
    boxes = np.stack(corners, axis=-1).astype(np.float32).reshape(-1)
    if said.clip:
        boxes = np.clip(boxes, 0, 1)
    variance = list(said.variance) or [0.1]
    if len(variance) not in {1, 4} or min(variance) <= 0:
        raise refused(f"The {step.where} has {len(variance)} variances; a box takes 1 or 4 above 0.", layer=step.name)
    variances = np.resize(np.array(variance, dtype=np.float32), boxes.size)
    return np.stack([boxes, variances])[None]


def _sizes(step: Step, said: messages.PriorBoxParameter) -> Iterator[tuple[float, float]]:
    """Yield width and height of the boxes of one place, in Caffe's order."""
    if not said.min_size or len(said.max_size) not in {0, len(said.min_size)}:
        raise refused(
            f"The {step.where} has {len(said.min_size)} smallest sizes and {len(said.max_size)} largest; it needs one "
            "smallest at least, and as many largest or none.",
            layer=step.name,
            kind=step.kind,
        )
    ratios = [1.0]
    for ratio in said.aspect_ratio:
        if ratio <= 0:
            raise refused(f"The {step.where} has the aspect ratio {ratio}.", layer=step.name, kind=step.kind)
        if all(abs(ratio - other) >= _SAME for other in ratios):
            ratios += [ratio, 1 / ratio] if said.flip else [ratio]
    for index, least in enumerate(said.min_size):
        yield least, least
        if said.max_size:
            middle = math.sqrt(least * said.max_size[index])
            yield middle, middle
        for ratio in ratios[1:]:
            yield least * math.sqrt(ratio), least / math.sqrt(ratio)


def check_detections(step: Step, location: Sequence[int], confidence: Sequence[int], prior: Sequence[int]) -> int:
    """Return how many boxes a DetectionOutput takes, whose inputs have these shapes.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR for a way to decode that Lathe does not read, INVALID_MODEL for shapes that
            contradict each other.
    """
    said = step.layer.detection_output_param
    if not said.share_location or said.code_type not in {CENTER_SIZE, CORNER}:
        what = "boxes of each class apart" if not said.share_location else "boxes in the code CORNER_SIZE"
        raise unsupported(
            f"The {step.where} decodes {what}, which Lathe does not read.",
            "End the net before it: name its inputs in the component's `output_names`, and decode outside.",
            layer=step.name,
            kind=step.kind,
        )
    boxes = prior[-1] // 4
    fits = (math.prod(location[1:]), math.prod(confidence[1:])) == (boxes * 4, boxes * said.num_classes)
    if not fits or len(prior) != 3 or not boxes or not said.num_classes:
        raise refused(
            f"The {step.where} reads locations of {list(location)}, confidences of {list(confidence)} for "
            f"{said.num_classes} classes, and boxes of {list(prior)}, which do not fit each other.",
            layer=step.name,
            kind=step.kind,
        )
    return boxes


def outputs_of(top: str) -> tuple[str, str]:
    """Return the names of what stands for a DetectionOutput's blob: boxes and scores."""
    return f"{top}_boxes", f"{top}_scores"


def advice(step: Step) -> str:
    """Return the sentence that says how the template turns boxes and scores into detections."""
    said = step.layer.detection_output_param
    boxes, scores = outputs_of(step.tops[0])
    arguments = [
        f"boxes: {boxes}",
        f"scores: {scores}",
        "normalized: 1",
        f"label_offset: {1 if said.background_label_id == 0 else 0}",
        f"iou_threshold: {said.nms_param.nms_threshold:.6g}",
        f"score_threshold: {said.confidence_threshold:.6g}",
        *([f"max_detections: {said.keep_top_k}"] if said.keep_top_k > 0 else []),
    ]
    return (
        f"The {step.where} is decoded in the graph and suppressed behind it: the package returns '{boxes}' and "
        f"'{scores}'. For detections, use the method `detection` with {', '.join(arguments)}."
    )
