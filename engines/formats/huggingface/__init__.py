"""Directories of Hugging Face: models of transformers, and pipelines of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.files import ModelFiles
from engines.formats.protocol import Format, ReadJob

if TYPE_CHECKING:
    from engines.formats.source import Source
    from engines.spec.open_axes import Declared
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component

_TELLING = frozenset({"model_type", "architectures", "auto_map", "_class_name"})


class HuggingFace(Format):
    """A directory of `save_pretrained`. A pipeline and an encoder with its decoder are several components."""

    name = "HUGGINGFACE"
    words = "a Hugging Face directory"
    advice = "Upload what model.save_pretrained(folder) writes: config.json and model.safetensors above all."
    template_note = "A model of one of the common tasks, with the inputs that its task takes."
    forms = frozenset({"graph", "network"})
    main_files = ("config.json", "model_index.json")
    packages = ("transformers", "diffusers", "safetensors")

    def matches(self, files: ModelFiles) -> bool:
        return "_class_name" in files.keys_of("model_index.json") or bool(files.keys_of("config.json") & _TELLING)

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.huggingface.description import describe_huggingface

        return describe_huggingface(folder)

    def components(self, request: ConversionRequest, workdir: Path) -> tuple[Component, ...]:
        from engines.formats.huggingface.reader import huggingface_components

        only = request.template.components[0]
        return huggingface_components(self.located(request, only, workdir), only)

    def inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Declared:
        from engines.formats.huggingface.reader import huggingface_inputs

        return huggingface_inputs(self.located(request, component, workdir), component)

    def read(self, job: ReadJob) -> Source:
        from engines.formats.huggingface.reader import read_huggingface
        from engines.spec.source_files import ROOT

        folder = self.located(job.request, job.component, job.workdir)
        return read_huggingface(folder, job.workdir / ROOT, job.component, job.arguments, job.onnx_path)
