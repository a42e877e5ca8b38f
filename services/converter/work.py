"""The worker side of conversions: what a worker fetches, runs and reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from lathe.converter.v1.conversion_service_pb2 import ConversionOutcome, ConversionWork
from lathe.type.v1.digest_pb2 import Digest, File

from engines.devices import load_catalog
from engines.toolchain import fingerprint, software

ENGINE_PACKAGES = ("lathe", "torch", "onnx", "onnxscript", "onnx-ir", "numpy")
"""Packages beside the device's own toolchains whose versions may change a result."""


class ConversionWorkKind:
    """Conversions, as a worker of one device sees them."""

    name = "conversion"
    entry = "engines.conversion:run"
    preload = ("torch.onnx", "torch.export", "onnxscript", "onnxruntime", "openvino", "engines.conversion")
    work_type = ConversionWork
    outcome_type = ConversionOutcome
    outputs_dir = "package"

    def __init__(self, device: str) -> None:
        self._device = load_catalog().devices[device]

    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return model files, architectures and samples."""
        assert isinstance(work, ConversionWork)
        return [(entry.path, entry.digest) for entry in work.inputs]

    def file_lists(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return nothing: a conversion names every file itself."""
        return ()

    def request(self, work: Message) -> dict[str, Any]:
        """Return the work message as JSON values."""
        return MessageToDict(work, preserving_proto_field_name=True)

    async def outcome(self, result: dict[str, Any], files: Sequence[File]) -> Message:
        """Return the outcome: what the engines found, with the files as they were stored."""
        reported = sorted(entry["path"] for entry in result.pop("files", []))
        stored = sorted(file.path for file in files)
        if reported != stored:
            raise ValueError(f"the engines reported the files {reported}, but the package holds {stored}")
        try:
            outcome = ParseDict(result, ConversionOutcome())
        except ParseError as error:
            raise ValueError(str(error)) from error
        outcome.files.extend(files)
        return outcome

    def environment(self) -> dict[str, Any]:
        """Return the versions of everything that may change a result, and the processor."""
        runtimes = {package for runtime in self._device.buildable_runtimes.values() for package in runtime.packages}
        return {"software": software({*ENGINE_PACKAGES, *runtimes}), "device": self._device.id, **fingerprint()}
