"""PyTorch state dicts with their architectures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.files import ModelFiles
from engines.formats.protocol import Format, ReadJob

if TYPE_CHECKING:
    from engines.formats.source import Source

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
        return files.look_like("a file of torch.save") or any(map(_is_legacy, files.models))

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.pytorch.description import describe_pth

        return describe_pth(folder / file, file)

    def read(self, job: ReadJob) -> Source:
        from engines.formats.pytorch.reader import PytorchSource, read_state_dict
        from engines.spec.source_files import file_inside

        architecture = job.request.architectures[job.component.name]
        source = PytorchSource(
            checkpoint=self.located(job.request, job.component, job.workdir),
            architecture=file_inside(job.workdir, architecture.source_path),
            class_name=architecture.class_name,
            config=architecture.config,
            state_dict_key=job.component.state_dict_key,
            num_classes=job.component.num_classes,
            component=job.component.name,
        )
        return read_state_dict(source, job.component, job.arguments, job.onnx_path)


def _is_legacy(path: Path) -> bool:
    """Return whether a file begins with the magic number that `torch.save` wrote before it wrote zip archives."""
    with path.open("rb") as file:
        return file.read(14)[2:].startswith(_LEGACY_MAGIC)
