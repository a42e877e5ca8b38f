"""The worker side of kinds whose engine takes the work message as JSON and answers with the fields of the outcome."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from google.protobuf.json_format import ParseError
from google.protobuf.message import Message
from lathe.type.v1.digest_pb2 import File

from engines.formats import FORMATS
from engines.runtimes import installed
from engines.spec.devices import load_catalog
from engines.spec.toolchain import fingerprint, versions
from services.platform.words import from_values, to_values

READING_PACKAGES = (
    *("lathe", "torch", "onnx", "onnxscript", "onnx-ir", "numpy"),
    *(package for entry in FORMATS.values() for package in entry.packages),
)
"""Packages that read a source, whatever its format."""
QUANTIZING_PACKAGES = (*READING_PACKAGES, "onnxruntime", "nncf", "pillow", "pyarrow", "pycocotools")
"""Packages that quantize a source and judge it on data; ONNX Runtime's quantizer serves every runtime."""


class EngineWork:
    """What these kinds share. The outcome has a field `files`, and the engine names the files that it wrote."""

    outcome_type: type[Message]
    modules: tuple[str, ...]
    """Modules beside those of the device's runtimes that a warm child has already imported."""
    timed: bool = True
    """Whether a choice or a figure of the outcome depends on how fast the processor is: then its model is part of the
    environment, else only what it can execute."""

    runs_forms: bool = True
    """Whether its tasks run forms, so that only a machine that is the device can do them."""

    def __init__(self, device: str, packages: Collection[str]) -> None:
        """Serve a device of the catalog; `packages` beside its toolchains have versions that may change a result."""
        self._device = load_catalog().devices[device]
        self._packages = packages

    @property
    def preload(self) -> Sequence[str]:
        """Modules that a warm child has already imported."""
        rooms = (module for room in installed(self._device) for module in room.modules)
        return tuple(dict.fromkeys((*rooms, *self.modules)))

    def request(self, work: Message) -> dict[str, Any]:
        """Return the work message as JSON values."""
        return to_values(work)

    async def outcome(self, result: dict[str, Any], files: Sequence[File]) -> Message:
        """Return the outcome: what the engines found, with the files as they were stored."""
        reported = sorted(entry["path"] for entry in result.pop("files", []))
        stored = sorted(file.path for file in files)
        if reported != stored:
            raise ValueError(f"the engines reported the files {reported}, but stored are {stored}")
        outcome: Any = self.outcome_type()
        try:
            from_values(result, outcome)
        except ParseError as error:
            raise ValueError(str(error)) from error
        outcome.files.extend(files)
        made: Message = outcome
        return made

    def environment(self) -> dict[str, Any]:
        """Return the versions of everything that may change a result, and the processor."""
        tools = versions(self._packages)
        for room in installed(self._device):
            tools |= room.environment(self._device)
        machine = fingerprint()
        if not self.timed:
            del machine["cpu"]
        software = [{"name": name, "version": version} for name, version in sorted(tools.items())]
        return {"software": software, "device": self._device.id, **machine}
