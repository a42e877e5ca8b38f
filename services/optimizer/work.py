"""The worker side of optimizations: what a worker fetches, runs and reports."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from lathe.internal.v1.optimization_pb2 import OptimizationOutcome, OptimizationWork
from lathe.type.v1.digest_pb2 import Digest

from engines.spec.source_files import TEST_DATA
from services.optimizer.rules import RECORD_FILE
from services.siblings.datasets import INDEX_FILE, calibration_and_evaluation
from services.tasks.worker.engine_work import QUANTIZING_PACKAGES, EngineWork

CALIBRATION_FILE = "calibration.bin"


class OptimizationWorkKind(EngineWork):
    """Optimizations, as a worker of one device sees them."""

    name = "optimization"
    entry = "engines.api.optimization:run"
    modules = ("torch.onnx", "onnxruntime.quantization", "nncf", "cyclonedx.output.json", "engines.api.optimization")
    work_type = OptimizationWork
    outcome_type = OptimizationOutcome
    outputs_dir = "package"
    packages = QUANTIZING_PACKAGES

    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return what reads the source, the indexes of the selections, the user's arrays, and the earlier record."""
        assert isinstance(work, OptimizationWork)
        found = [(entry.path, entry.digest) for entry in work.conversion.inputs]
        found += [(f"{folder}/{INDEX_FILE}", selection.index) for folder, selection in calibration_and_evaluation(work)]
        if work.spec.HasField("calibration_samples"):
            found.append((CALIBRATION_FILE, work.spec.calibration_samples))
        if work.spec.HasField("test_data"):
            found.append((TEST_DATA, work.spec.test_data))
        if work.HasField("record"):
            found.append((RECORD_FILE, work.record))
        return found

    def file_lists(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return the images or tensors of the selections."""
        assert isinstance(work, OptimizationWork)
        return [(folder, selection.files) for folder, selection in calibration_and_evaluation(work)]
