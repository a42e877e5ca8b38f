"""PyTorch state dicts with their architectures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.files import ModelFiles
from engines.formats.protocol import Format

if TYPE_CHECKING:
    from engines.formats.source import Source
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component
    from engines.tensors import Array

_LEGACY_MAGIC = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")


class StateDict(Format):
    """A file of `torch.save` that holds weights; the user declares the code that builds their network."""

    name = "PTH"
    words = "a PyTorch state dict"
    advice = "Upload the file that torch.save(model.state_dict(), path) wrote, whole."
    template_note = "Any network. Say the inputs of its component, 'model', in the overrides."
    forms = frozenset({"graph", "network"})
    endings = (".pth", ".pt", ".ckpt")
    weights_only = True

    def matches(self, files: ModelFiles) -> bool:
        """Return whether a file is one of `torch.save`, of the zip archives or of the pickles before torch 1.6."""
        return files.look_like("a file of torch.save") or any(map(_is_legacy, files.models))

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        """Describe each state dict of the checkpoint."""
        from engines.formats.pytorch.description import describe_pth

        return describe_pth(folder / file, file)

    def read(
        self,
        request: ConversionRequest,
        component: Component,
        workdir: Path,
        arguments: Sequence[Array],
        onnx_path: Path,
    ) -> Source:
        """Build the network by its architecture, and load the weights into it."""
        from engines.formats.pytorch.reader import PytorchSource, read_state_dict
        from engines.spec.source_files import file_inside

        architecture = request.architectures[component.name]
        source = PytorchSource(
            checkpoint=self.located(request, component, workdir),
            architecture=file_inside(workdir, architecture.source_path),
            class_name=architecture.class_name,
            config=architecture.config,
            state_dict_key=component.state_dict_key,
            num_classes=component.num_classes,
            component=component.name,
        )
        return read_state_dict(source, component, arguments, onnx_path)


def _is_legacy(path: Path) -> bool:
    """Return whether a file begins with the magic number that `torch.save` wrote before it wrote zip archives."""
    with path.open("rb") as file:
        return file.read(14)[2:].startswith(_LEGACY_MAGIC)
