"""ONNX files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.files import ModelFiles
from engines.formats.protobuf_marks import is_onnx
from engines.formats.protocol import Format, ReadJob

if TYPE_CHECKING:
    from engines.formats.source import Source
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component
    from engines.tensors.signature import TensorSpec


class Onnx(Format):
    """An ONNX model, its external data beside it."""

    name = "ONNX"
    words = "an ONNX model"
    advice = "Upload the .onnx file, whole, its external data beside it."
    template_note = "Any graph, with the inputs that it has."
    endings = (".onnx",)
    fixed_inputs = True
    open_axes = True

    def matches(self, files: ModelFiles) -> bool:
        return any(is_onnx(path) for path in files.ending(".onnx") or files.models)

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.onnx.description import describe_onnx

        return [describe_onnx(folder / file, file)]

    def model_files(self, paths: Iterable[str]) -> list[str]:
        """Return the .onnx files: other files hold their weights."""
        files = super().model_files(paths)
        return [path for path in files if path.lower().endswith(".onnx")] or files

    def files_beside(self, path: Path) -> list[str]:
        """Return the files of the external data."""
        from engines.graph.hygiene import external_files, load_model

        return external_files(load_model(path, weights=False), path)

    def graph_inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Sequence[TensorSpec]:
        from engines.formats.onnx.reader import stated_inputs

        return stated_inputs(self.located(request, component, workdir), request.tensor_information)

    def read(self, job: ReadJob) -> Source:
        from engines.formats.onnx.reader import read_onnx

        return read_onnx(self.located(job.request, job.component, job.workdir), job)
