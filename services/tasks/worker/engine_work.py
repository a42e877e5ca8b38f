"""The worker side of kinds whose engine takes the work message as JSON and answers with the fields of the outcome."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

from google.protobuf.json_format import ParseError
from google.protobuf.message import Message
from lathe.internal.v1.conversion_pb2 import ConversionWork
from lathe.registry.v1.model_service_pb2 import ModelFormat
from lathe.type.v1.digest_pb2 import Digest, File

from engines.formats import CONVERTIBLE, FORMATS
from engines.runtimes import installed
from engines.spec.devices import load_catalog
from engines.spec.toolchain import fingerprint, versions
from services.platform.words import from_values, to_values, word

READING_PACKAGES = (
    *("lathe", "torch", "onnx", "onnxscript", "onnx-ir", "numpy"),
    *(package for entry in FORMATS.values() for package in entry.packages),
)
"""Packages that read a source, whatever its format."""
QUANTIZING_PACKAGES = (*READING_PACKAGES, "onnxruntime", "nncf", "pillow", "pyarrow", "pycocotools")
"""Packages that quantize a source and judge it on data; ONNX Runtime's quantizer serves every runtime."""


class EngineWork(ABC):
    """What these kinds share. The outcome has a field `files`, and the engine names the files that it wrote."""

    name: str
    entry: str
    work_type: type[Message]
    outcome_type: type[Message]
    outputs_dir: str
    modules: tuple[str, ...]
    """Modules beside those of the device's runtimes that a warm child has already imported."""
    timed: bool = True
    """Whether a choice or a figure of the outcome depends on how fast the processor is: then its model is part of the
    environment, else only what it can execute."""

    runs_forms: bool = True
    """Whether its tasks run forms, so that only a machine that is the device can do them."""

    packages: Collection[str]
    """Packages beside the device's toolchains whose versions may change a result."""

    def __init__(self, device: str) -> None:
        """Serve a device of the catalog."""
        self._device = load_catalog().devices[device]

    @abstractmethod
    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return path in the work directory and content of each file to fetch."""

    @property
    def formats(self) -> Sequence[str]:
        """Formats of sources that can be read here."""
        return [name for name in CONVERTIBLE if FORMATS[name].readable]

    def source_format(self, work: Message) -> str:
        """Return the format of the source that a work reads; empty if it reads none."""
        reading = work if isinstance(work, ConversionWork) else getattr(work, "conversion", None)
        return word(ModelFormat, reading.template.source_format) if reading and reading.inputs else ""

    def file_lists(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return folder in the work directory and content of each stored FileList to fetch and expand; none."""
        del work
        return ()

    @property
    def preload(self) -> Sequence[str]:
        """Modules that a warm child has already imported."""
        rooms = (module for room in installed(self._device) for module in room.modules)
        return tuple(dict.fromkeys((*rooms, *self.modules)))

    def request(self, work: Message) -> dict[str, Any]:
        """Return the work message as JSON values."""
        return to_values(work)

    def built(self, outcome: Message) -> Sequence[File]:
        """Return nothing: a worker on the device does the whole work again, as only there it can choose."""
        return ()

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
        tools = versions(self.packages)
        for room in installed(self._device):
            tools |= room.environment(self._device)
        machine = fingerprint()
        if not self.timed:
            del machine["cpu"]
        software = [{"name": name, "version": version} for name, version in sorted(tools.items())]
        return {"software": software, "device": self._device.id, **machine}
