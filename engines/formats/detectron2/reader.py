"""Reads detectors of Detectron2: its configuration builds the network, and the checkpoint has the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.formats.detectors.reading import heads_source
from engines.formats.detectors.statement import Images, Statement, with_image, with_statement
from engines.formats.detectron2.config_files import DetectorFiles
from engines.formats.detectron2.networks import raw_detector
from engines.formats.detectron2.toolbox import build, load_config
from engines.formats.pytorch.checkpoint import load_state_dict
from engines.formats.pytorch.weights import load_weights
from engines.formats.source import Source
from engines.spec.open_axes import Declared
from engines.spec.template import Component, Template
from engines.tensors import Array

_WEIGHTS = "model"
"""Key of the weights in a checkpoint of Detectron2."""


def stated(files: DetectorFiles, template: Template) -> Template:
    """Return the template with what the detector says of its outputs. It does not say the names of its classes.

    Raises:
        EngineFailure: as `read`.
    """
    return with_statement(template, Statement(raw_detector(build(load_config(files))).args))


def declared(files: DetectorFiles, component: Component) -> Declared:
    """Return the component with the image that the configuration says: the largest of its tests.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE; INVALID_MODEL for the configuration.
    """
    config = load_config(files)
    longest, shortest = int(config.INPUT.MAX_SIZE_TEST), int(config.INPUT.MIN_SIZE_TEST)
    divisor = 32
    height, width = (-(-extent // divisor) * divisor for extent in (shortest or longest, longest))
    mean, std = (tuple(map(float, values)) for values in (config.MODEL.PIXEL_MEAN, config.MODEL.PIXEL_STD))
    return with_image(component, Images(height, width, mean, std, str(config.INPUT.FORMAT), divisor))


def read(files: DetectorFiles, component: Component, arguments: Sequence[Array], onnx_path: Path) -> Source:
    """Return the raw heads of a detector as a source.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE, INVALID_MODEL, UNSAFE_MODEL, WEIGHTS_MISMATCH; as `heads_source`.
    """
    detector = build(load_config(files))
    weights = load_state_dict(
        files.checkpoint,
        component.state_dict_key,
        usual=_WEIGHTS,
        expected=detector.state_dict(),
        component=component.name,
    )
    # Pixels' mean and deviation are kept with the weights by old releases; the configuration says them.
    load_weights(detector, {key: value for key, value in weights.items() if not key.startswith("pixel_")})
    return heads_source(raw_detector(detector), files.config, component, arguments, onnx_path)
