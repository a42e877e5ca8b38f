"""Source formats: one folder for each, and the table of them."""

from __future__ import annotations

from engines.failures import EngineFailure, FailureReason
from engines.formats.caffe import Caffe
from engines.formats.detectron2 import Detectron2
from engines.formats.exported_program import ExportedProgram
from engines.formats.frozen_graph import FrozenGraph
from engines.formats.huggingface import HuggingFace
from engines.formats.mmdetection import MMDetection
from engines.formats.onnx import Onnx
from engines.formats.package import Package
from engines.formats.protocol import Format
from engines.formats.pytorch import StateDict
from engines.formats.saved_model import SavedModel
from engines.formats.torchscript import TorchScript

FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        StateDict(),
        TorchScript(),
        ExportedProgram(),
        FrozenGraph(),
        Caffe(),
        Onnx(),
        SavedModel(),
        HuggingFace(),
        MMDetection(),
        Detectron2(),
        Package(),
    )
}
"""Every format by name. Files are tried from the last to the first: a folder may hold models of formats before it."""

CONVERTIBLE = tuple(name for name, entry in FORMATS.items() if entry.convertible)
"""Names of the formats that can be read into ONNX."""


def format_of(name: str) -> Format:
    """Return a format that can be converted.

    Raises:
        EngineFailure: INVALID_SPEC for every other name.
    """
    if name not in CONVERTIBLE:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"Sources of the format {name} cannot be read in this release; these can: {', '.join(CONVERTIBLE)}.",
        )
    return FORMATS[name]
