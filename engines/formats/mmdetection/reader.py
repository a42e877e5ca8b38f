"""Reads detectors of MMDetection: its configuration builds the network, and the checkpoint has the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.detectors.reading import heads_source
from engines.formats.detectors.statement import Statement, with_image, with_statement
from engines.formats.detectors.two_stage import OUTPUTS
from engines.formats.mmdetection import dense, two_stage
from engines.formats.mmdetection.config_files import DetectorFiles
from engines.formats.mmdetection.images import classes_of, images_of
from engines.formats.mmdetection.toolbox import build, load_config
from engines.formats.pytorch.checkpoint import load_beside, load_state_dict
from engines.formats.pytorch.weights import load_weights
from engines.formats.source import Source
from engines.spec.open_axes import Declared
from engines.spec.template import Component, Template
from engines.tensors import Array

if TYPE_CHECKING:
    import torch

_WEIGHTS = "state_dict"
"""Key of the weights in a checkpoint of mmengine; averaged ones, if there are any, are here after training."""


@dataclass(frozen=True)
class _Detector:
    """A detector that was built: itself, its number of classes, its network, and the network's outputs."""

    detector: Any
    classes: int
    network: torch.nn.Module
    outputs: tuple[str, ...]
    two_stage: bool


def stated(files: DetectorFiles, template: Template) -> Template:
    """Return the template with what the detector says: classes, and how boxes come from its raw heads.

    Raises:
        EngineFailure: as `read`; INVALID_MODEL for a detector whose boxes Lathe does not compute.
    """
    config = load_config(files)
    built = _built(build(config))
    classes = classes_of(config, load_beside(files.checkpoint), built.classes)
    if built.two_stage:
        args = two_stage.arguments_of(built.detector)
    else:
        names: dict[str, list[str]] = {}
        for name in built.outputs:
            names.setdefault(name.rpartition("_")[0], []).append(name)
        args = dense.arguments_of(built.detector, names)
    return with_statement(template, Statement(args, classes))


def declared(files: DetectorFiles, component: Component) -> Declared:
    """Return the component with the image that the configuration says.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE; INVALID_MODEL or UNSAFE_MODEL for the configuration; INVALID_SPEC if it
            says no size.
    """
    return with_image(component, images_of(load_config(files)))


def read(files: DetectorFiles, component: Component, arguments: Sequence[Array], onnx_path: Path) -> Source:
    """Return the raw heads of a detector as a source.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE, INVALID_MODEL, UNSAFE_MODEL, WEIGHTS_MISMATCH, UNSUPPORTED_OPERATOR; as
            `heads_source`.
    """
    detector = build(load_config(files))
    weights = load_state_dict(
        files.checkpoint,
        component.state_dict_key,
        usual=_WEIGHTS,
        expected=detector.state_dict(),
        component=component.name,
    )
    load_weights(detector, weights)
    return heads_source(_built(detector), files.config, component, arguments, onnx_path, architecture=files.config)


def _built(detector: Any) -> _Detector:
    """Return a detector as a network, by the parts that it has.

    Raises:
        EngineFailure: INVALID_MODEL for other parts.
    """
    if getattr(detector, "with_rpn", False) and getattr(detector, "roi_head", None) is not None:
        head = detector.roi_head.bbox_head
        if not hasattr(head, "num_classes"):
            raise dense.unsupported(detector.roi_head, "has several heads")
        return _Detector(detector, int(head.num_classes), two_stage.network_of(detector), OUTPUTS, two_stage=True)
    if getattr(detector, "bbox_head", None) is None or not hasattr(detector, "extract_feat"):
        raise dense.unsupported(detector, "has parts other than a backbone, a neck and a head")
    levels, roles = dense.roles_of(detector)
    outputs = tuple(f"{role}_{level}" for role in roles for level in range(levels))
    network = dense.raw_heads(detector, levels, roles)
    return _Detector(detector, int(detector.bbox_head.num_classes), network, outputs, two_stage=False)
