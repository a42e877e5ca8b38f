"""Detects the format of a model from the files themselves. Imports no framework and runs nothing of the files."""

from __future__ import annotations

from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.formats.files import ModelFiles
from engines.spec.sniff import sniff


def detect(folder: Path) -> str:
    """Return the name of `lathe.registry.v1.ModelFormat` that the files of a folder, or one file, are in.

    Raises:
        EngineFailure: INVALID_MODEL saying what the files look like if they are in no known format.
    """
    files = ModelFiles.of(folder)
    found = _first(files)
    if not found:
        looks = _looks(files)
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The format of the model cannot be detected: {looks}.",
            suggested_fix=_hint(files, looks) or f"Lathe reads {', '.join(FORMATS)}.",
        )
    return found


def check_format(folder: Path, claimed: str) -> None:
    """Refuse files that are not in the format that they are said to be in.

    Raises:
        EngineFailure: INVALID_MODEL with what the files look like.
    """
    files, wanted = ModelFiles.of(folder), FORMATS[claimed]
    if wanted.matches(files):
        return
    other = _first(files)
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"The model is said to be {wanted.words}, but {_looks(files)}.",
        suggested_fix=f"Say that its format is {other}, or upload the right files." if other else wanted.advice,
    )


def _first(files: ModelFiles) -> str:
    return next((name for name, entry in reversed(FORMATS.items()) if entry.matches(files)), "")


def _looks(files: ModelFiles) -> str:
    """Return what the files look like, as words that fit after "but"."""
    weights = [path for path in files.ending(".safetensors", ".bin") if path.parent == files.root]
    configured = files.named("config.json") or files.named("model_index.json")
    if not configured and weights and len(files.paths) > 1:
        return f"it has weights, '{weights[0].name}', and no config.json beside them"
    chosen = files.models or files.paths
    shown = [f"'{path.relative_to(files.root)}' looks like {sniff(path)}" for path in chosen[:3]]
    more = f", and there are {len(chosen) - 3} more files" if len(chosen) > 3 else ""
    return ", ".join(shown) + more


def _hint(files: ModelFiles, looks: str) -> str:
    """Return what to do about files that are nearly a model; empty if they are not."""
    if "Keras" in looks:
        return "Write a SavedModel with model.export(folder) of Keras, and upload that folder."
    if files.named("adapter_config.json"):
        return (
            "Merge the adapter into its model, with merge_and_unload() of peft, and upload what save_pretrained writes."
        )
    if files.named("config.json") and not files.keys_of("config.json"):
        return "Upload config.json as save_pretrained(folder) wrote it: it holds no JSON object."
    standing = {name for entry in FORMATS.values() for name in entry.main_files}
    deeper = next((path for path in files.paths if path.name in standing and path.parent != files.root), None)
    return f"There is a model in '{deeper.parent.relative_to(files.root)}': upload that folder." if deeper else ""
