"""Builds detectors by Detectron2 itself, of configurations that were looked through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.detectron2.config_files import ADVICE, DetectorFiles
from engines.formats.protocol import not_installed

if TYPE_CHECKING:
    import torch


def load_config(files: DetectorFiles) -> Any:
    """Return the configuration as Detectron2 reads it, for the processor and without weights.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if Detectron2 is not installed; INVALID_MODEL for the configuration.
    """
    try:
        from detectron2.config import get_cfg
    except ImportError as error:
        failure = not_installed("Detectors of Detectron2", "detectron2", "detectron2", error)
        failure.suggested_fix += " Detectron2's own source goes beside it: the image worker-detectron2 has both."
        raise failure from error
    config = get_cfg()
    try:
        config.merge_from_file(str(files.config), allow_unsafe=False)
    except (Exception, SystemExit) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"Detectron2 cannot read '{files.config.name}': {type(error).__name__}: {first_line(error)}",
            suggested_fix=ADVICE,
        ) from error
    config.MODEL.DEVICE, config.MODEL.WEIGHTS = "cpu", ""
    if config.INPUT.FORMAT not in {"RGB", "BGR"}:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"INPUT.FORMAT of '{files.config.name}' is '{config.INPUT.FORMAT}'; Lathe reads RGB and BGR.",
            suggested_fix="Train the detector on RGB or BGR, or export it to ONNX, and upload that.",
        )
    return config


def build(config: Any) -> torch.nn.Module:
    """Return the detector of a configuration, with random weights and in evaluation mode.

    Raises:
        EngineFailure: INVALID_MODEL with what Detectron2 says.
    """
    from detectron2.modeling import build_model

    try:
        detector: torch.nn.Module = build_model(config)
    except (Exception, SystemExit) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"Detectron2 cannot build '{config.MODEL.META_ARCHITECTURE}': {type(error).__name__}: {first_line(error)}",
            suggested_fix="A detector with parts of its own is read from ONNX only: export it where it was trained.",
        ) from error
    return detector.eval().requires_grad_(requires_grad=False)
