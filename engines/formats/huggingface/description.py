"""Says what a Hugging Face directory contains: its configurations and tensors. Nothing of it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.described_tensors import describe_tensors
from engines.formats.detection import check_format
from engines.formats.files import read_json
from engines.formats.huggingface.files import read_weights, refuse_code, weight_files

_SHOWN = ("model_type", "_class_name", "torch_dtype", "dtype", "transformers_version", "_diffusers_version")


def describe_huggingface(folder: Path) -> list[dict[str, Any]]:
    """Return a `GraphDescription` for the model of a directory, or for each model of a pipeline.

    Raises:
        EngineFailure: INVALID_MODEL for another directory, or weights that are missing, empty or damaged; UNSAFE_MODEL
            for a configuration that asks for code beside it, or pickled weights that refer to code.
    """
    check_format(folder, "HUGGINGFACE")
    index = read_json(folder / "model_index.json")
    if "_class_name" not in index:
        return [_describe(folder, folder)]
    refuse_code(folder)
    there = {path.name: path for path in folder.iterdir() if path.is_dir()}  # a name may be any path
    parts = [there[name] for name in sorted(index) if isinstance(index[name], list) and name in there]
    models = [part for part in parts if (part / "config.json").is_file()]
    if not models:
        raise _invalid(f"The pipeline {index['_class_name']} has none of its models: their folders are missing.")
    return [_describe(part, folder) for part in models]


def _describe(part: Path, root: Path) -> dict[str, Any]:
    config = read_json(part / "config.json")
    shown = (part / "config.json").relative_to(root).as_posix()
    refuse_code(part)
    files = weight_files(part)
    tensors = {name: tensor for file in files for name, tensor in read_weights(file).items()}
    metadata = {key: str(config[key]) for key in _SHOWN if config.get(key)}
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        metadata["architectures"] = ", ".join(map(str, architectures))
    metadata["weights"] = ", ".join(file.relative_to(root).as_posix() for file in files)
    described = describe_tensors(tensors, shown)
    component = "model" if part == root else part.name
    return {**described, "component": component, "metadata": {key: text[:1000] for key, text in metadata.items()}}


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        message,
        suggested_fix="Upload everything that model.save_pretrained(folder) wrote.",
    )
