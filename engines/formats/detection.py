"""Says which format a model is in, from its files themselves. Imports no framework and runs nothing of the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.protobuf_marks import is_frozen_graph, is_onnx, is_saved_model
from engines.spec.sniff import sniff
from engines.spec.source_files import DOCUMENTS

_LARGEST_JSON = 16 * 2**20


def detect(folder: Path) -> str:
    """Return the name of `lathe.registry.v1.ModelFormat` that the files of a folder, or one file, are in.

    Raises:
        EngineFailure: INVALID_MODEL saying what the files look like where they are no format.
    """
    files = _Files.of(folder)
    found = next((name for name, holds in _MARKS.items() if holds(files)), "")
    if not found:
        looks = _looks(files)
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The format of the model cannot be told: {looks}.",
            suggested_fix=_hint(files, looks) or f"Lathe reads {', '.join(_MARKS)}.",
        )
    return found


def check_format(folder: Path, claimed: str) -> None:
    """Refuse files that are not in the format that they are said to be in; formats without marks are believed.

    Raises:
        EngineFailure: INVALID_MODEL with what the files look like.
    """
    files = _Files.of(folder)
    holds = _MARKS.get(claimed)
    if holds is None or holds(files):
        return
    other = next((name for name, mark in _MARKS.items() if mark(files)), "")
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"The model is said to be {_WORDS[claimed]}, but {_looks(files)}.",
        suggested_fix=f"Say that its format is {other}, or upload the right files." if other else _ADVICE[claimed],
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; nothing where the file is not there.

    Raises:
        EngineFailure: INVALID_MODEL where the file holds no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError("it is larger than any configuration")
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__} where an object belongs")
    except (ValueError, RecursionError) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{path.name}' is no JSON object: {error}.",
            suggested_fix="Upload the file as save_pretrained() wrote it.",
        ) from error
    return value


@dataclass(frozen=True)
class _Files:
    root: Path
    paths: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> _Files:
        if folder.is_file():
            return cls(folder.parent, (folder,))
        paths = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
        if not paths:
            raise EngineFailure(FailureReason.INVALID_MODEL, "The model has no file.")
        return cls(folder, paths)

    def named(self, name: str) -> Path | None:
        return next((path for path in self.paths if path == self.root / name), None)

    def ending(self, *suffixes: str) -> list[Path]:
        return [path for path in self.paths if path.suffix.lower() in suffixes]

    @property
    def models(self) -> list[Path]:
        """Files that may be models: not texts, configurations or sample data."""
        return [path for path in self.paths if path.suffix.lower() not in DOCUMENTS and not path.name.startswith(".")]


def _package(files: _Files) -> bool:
    manifest = files.named("manifest.json")
    return manifest is not None and _keys(manifest) >= {"schema_version", "components"}


def _huggingface(files: _Files) -> bool:
    index, config = files.named("model_index.json"), files.named("config.json")
    if index is not None and "_class_name" in _keys(index):
        return True
    return config is not None and not _keys(config).isdisjoint(
        {"model_type", "architectures", "auto_map", "_class_name"}
    )


def _saved_model(files: _Files) -> bool:
    binary = files.named("saved_model.pb")
    return files.named("saved_model.pbtxt") is not None or (binary is not None and is_saved_model(binary))


def _caffe(files: _Files) -> bool:
    return bool(files.ending(".prototxt")) and bool(files.ending(".caffemodel"))


def _onnx(files: _Files) -> bool:
    candidates = files.ending(".onnx") or files.models
    return any(is_onnx(path) for path in candidates)


def _frozen_graph(files: _Files) -> bool:
    return any(is_frozen_graph(path) for path in files.models if path.name != "saved_model.pb")


def _pth(files: _Files) -> bool:
    return any(sniff(path) == "a file of torch.save" or _is_legacy(path) for path in files.models)


def _sniffed(words: str) -> Callable[[_Files], bool]:
    return lambda files: any(sniff(path) == words for path in files.models)


_MARKS: dict[str, Callable[[_Files], bool]] = {
    "PACKAGE": _package,
    "HUGGINGFACE": _huggingface,
    "SAVED_MODEL": _saved_model,
    "CAFFE": _caffe,
    "ONNX": _onnx,
    "TORCHSCRIPT": _sniffed("a TorchScript archive"),
    "EXPORTED_PROGRAM": _sniffed("a torch.export program"),
    "FROZEN_GRAPH": _frozen_graph,
    "PTH": _pth,
}
"""How each format is known, the most telling first: a Hugging Face directory may hold ONNX files too."""

_STANDING = frozenset({"saved_model.pb", "config.json", "model_index.json", "manifest.json"})
"""Files that stand for a folder."""
_WORDS = {
    "PACKAGE": "a package of Lathe",
    "HUGGINGFACE": "a Hugging Face directory",
    "SAVED_MODEL": "a TensorFlow SavedModel",
    "CAFFE": "a Caffe model",
    "ONNX": "an ONNX model",
    "TORCHSCRIPT": "a TorchScript archive",
    "EXPORTED_PROGRAM": "a torch.export program",
    "FROZEN_GRAPH": "a TensorFlow frozen graph",
    "PTH": "a PyTorch state dict",
}
_ADVICE = {
    "PACKAGE": "Upload the whole folder that a task of Lathe produced, its manifest.json with it.",
    "HUGGINGFACE": "Upload what model.save_pretrained(folder) writes: config.json and model.safetensors above all.",
    "SAVED_MODEL": "Upload the folder that tf.saved_model.save wrote: saved_model.pb and variables/.",
    "CAFFE": "Upload the .prototxt and the .caffemodel.",
    "ONNX": "Upload the .onnx file, whole, its external data beside it.",
    "TORCHSCRIPT": "Write it with torch.jit.save(torch.jit.trace(model, example), 'model.pt').",
    "EXPORTED_PROGRAM": "Write it with torch.export.save(torch.export.export(model, example), 'model.pt2').",
    "FROZEN_GRAPH": "Upload the .pb file of a GraphDef whose variables were made constants.",
    "PTH": "Upload the file that torch.save(model.state_dict(), path) wrote, whole.",
}


def _looks(files: _Files) -> str:
    """Return what the files look like, as words that fit after "but"."""
    config, index = files.named("config.json"), files.named("model_index.json")
    weights = [path for path in files.ending(".safetensors", ".bin") if path.parent == files.root]
    if config is None and index is None and weights and len(files.paths) > 1:
        return f"it has weights, '{weights[0].name}', and no config.json beside them"
    chosen: Sequence[Path] = files.models or files.paths
    shown = [f"'{path.relative_to(files.root)}' looks like {sniff(path)}" for path in chosen[:3]]
    more = f", and there are {len(chosen) - 3} more files" if len(chosen) > 3 else ""
    return ", ".join(shown) + more


def _hint(files: _Files, looks: str) -> str:
    """Return what to do about files that are nearly a model; nothing where they are not."""
    if "Keras" in looks:
        return "Write a SavedModel with model.export(folder) of Keras, and upload that folder."
    if files.named("adapter_config.json"):
        return (
            "Merge the adapter into its model, with merge_and_unload() of peft, and upload what save_pretrained writes."
        )
    config = files.named("config.json")
    if config and not _keys(config):
        return "Upload config.json as save_pretrained(folder) wrote it: it holds no JSON object."
    deeper = next((path for path in files.paths if path.name in _STANDING and path.parent != files.root), None)
    return f"A model lies in '{deeper.parent.relative_to(files.root)}': upload that folder." if deeper else ""


def _keys(path: Path) -> set[str]:
    """Return the keys of a JSON object; none where it is none, which a reader will say better."""
    try:
        return set(read_json(path))
    except EngineFailure:
        return set()


def _is_legacy(path: Path) -> bool:
    """Return whether the file begins as `torch.save` wrote before it wrote zip archives: with a magic number."""
    with path.open("rb") as file:
        return file.read(14)[2:].startswith(_LEGACY_MAGIC)


_LEGACY_MAGIC = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
