"""TorchScript archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.files import ModelFiles
from engines.formats.protocol import Format, ReadJob

if TYPE_CHECKING:
    from engines.formats.source import Source
    from engines.spec.open_axes import Declared
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component


class TorchScript(Format):
    """An archive of `torch.jit.save`: a program, which keeps the names of its arguments and no shapes."""

    name = "TORCHSCRIPT"
    words = "a TorchScript archive"
    advice = "Write it with torch.jit.save(torch.jit.trace(model, example), 'model.pt')."
    template_note = (
        "Any archive. Say the inputs of its component, 'model', in the overrides: an archive holds no shapes."
    )
    forms = frozenset({"graph", "network"})

    def matches(self, files: ModelFiles) -> bool:
        return files.look_like(self.words)

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.torchscript.description import describe_torchscript

        return [describe_torchscript(folder / file, file)]

    def arguments(self, path: Path) -> Sequence[str]:
        from engines.formats.torchscript.reader import load_torchscript, script_arguments

        return list(script_arguments(load_torchscript(path).script))

    def in_order(self, request: ConversionRequest, component: Component, workdir: Path) -> Component:
        """Return the component with inputs that are named by arguments in the order of `forward`."""
        from engines.formats.torchscript.reader import in_order_of_forward

        if not any(given.place for given in component.inputs):
            return component
        return in_order_of_forward(self.located(request, component, workdir), component)

    def inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Declared:
        from engines.formats.torchscript.reader import undeclared

        raise undeclared(self.arguments(self.located(request, component, workdir)), component)

    def read(self, job: ReadJob) -> Source:
        from engines.formats.torchscript.reader import read_torchscript

        return read_torchscript(self.located(job.request, job.component, job.workdir), job)
