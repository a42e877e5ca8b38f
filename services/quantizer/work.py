"""The worker side of quantizations: what a worker fetches, runs and reports."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from lathe.internal.v1.quantization_pb2 import QuantizationOutcome, QuantizationWork
from lathe.type.v1.digest_pb2 import Digest

from services.siblings.datasets import INDEX_FILE, calibration_and_evaluation
from services.tasks.worker.engine_work import QUANTIZING_PACKAGES, EngineWork

ARTIFACT_FILE = "calibration.bin"


class QuantizationWorkKind(EngineWork):
    """Quantizations, as a worker of one device sees them."""

    name = "quantization"
    entry = "engines.api.quantization:run"
    modules = ("torch.onnx", "onnxruntime.quantization", "nncf", "cyclonedx.output.json", "engines.api.quantization")
    work_type = QuantizationWork
    outcome_type = QuantizationOutcome
    outputs_dir = "package"
    packages = QUANTIZING_PACKAGES
    runs_forms = False  # without the device, its forms are UNVERIFIED

    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return what reads the source, the indexes of the selections, and the artifact of calibration data."""
        assert isinstance(work, QuantizationWork)
        found = [(entry.path, entry.digest) for entry in work.conversion.inputs]
        found += [(f"{folder}/{INDEX_FILE}", selection.index) for folder, selection in calibration_and_evaluation(work)]
        if work.spec.calibration_data.HasField("artifact"):
            found.append((ARTIFACT_FILE, work.spec.calibration_data.artifact))
        return found

    def file_lists(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return the images or tensors of the selections."""
        assert isinstance(work, QuantizationWork)
        return [(folder, selection.files) for folder, selection in calibration_and_evaluation(work)]
