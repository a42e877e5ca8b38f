"""Programs of torch.export."""

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


class ExportedProgram(Format):
    """A file of `torch.export.save`, which states its inputs and the bounds of their axes."""

    name = "EXPORTED_PROGRAM"
    words = "a torch.export program"
    advice = "Write it with torch.export.save(torch.export.export(model, example), 'model.pt2')."
    template_note = "Any program, with the inputs that it was exported for."
    forms = frozenset({"graph", "network"})
    endings = (".pt2",)

    def matches(self, files: ModelFiles) -> bool:
        return files.look_like(self.words)

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.exported_program.description import describe_exported_program

        return [describe_exported_program(folder / file, file)]

    def inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Declared:
        from engines.formats.exported_program.reader import exported_program_inputs

        return exported_program_inputs(self.located(request, component, workdir), component)

    def read(self, job: ReadJob) -> Source:
        from engines.formats.exported_program.reader import read_exported_program

        return read_exported_program(self.located(job.request, job.component, job.workdir), job)
