"""The worker side of conversions: what a worker fetches, runs and reports."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from lathe.internal.v1.conversion_pb2 import ConversionOutcome, ConversionWork
from lathe.type.v1.digest_pb2 import Digest, File

from services.tasks.worker.engine_work import READING_PACKAGES, EngineWork


class ConversionWorkKind(EngineWork):
    """Conversions, as a worker of one device sees them."""

    name = "conversion"
    entry = "engines.api.conversion:run"
    modules = ("torch.onnx", "torch.export", "onnxscript", "cyclonedx.output.json", "engines.api.conversion")
    work_type = ConversionWork
    outcome_type = ConversionOutcome
    outputs_dir = "package"
    packages = READING_PACKAGES
    runs_forms = False  # without the device, its forms are UNVERIFIED
    # The latency that it measures is a note that names its processor; the package is the same on the next one.
    timed = False

    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return model files, architectures and samples."""
        assert isinstance(work, ConversionWork)
        return [(entry.path, entry.digest) for entry in work.inputs]

    def built(self, outcome: Message) -> Sequence[File]:
        """Return the whole package: its forms are compared and timed on the device."""
        assert isinstance(outcome, ConversionOutcome)
        return outcome.files
