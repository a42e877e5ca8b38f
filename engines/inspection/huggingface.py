"""Says what a Hugging Face directory contains: its configurations and tensors. Nothing of it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.inspection.formats import check_format, read_json
from engines.inspection.pth import read_checkpoint
from engines.inspection.restricted import TensorInfo
from engines.inspection.safetensors import read_safetensors
from engines.inspection.tensors import describe_tensors

_INDEXES = (
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
_WEIGHTS = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
"""Names under which weights are looked for, the preferred first."""
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
    _refuse_code(index, "model_index.json")
    there = {path.name: path for path in folder.iterdir() if path.is_dir()}  # a name may be any path
    parts = [there[name] for name in sorted(index) if isinstance(index[name], list) and name in there]
    models = [part for part in parts if (part / "config.json").is_file()]
    if not models:
        raise _invalid(f"The pipeline {index['_class_name']} has none of its models: their folders are missing.")
    return [_describe(part, folder) for part in models]


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a model's weights: the shards of an index, or one file; safetensors before pickles.

    Raises:
        EngineFailure: INVALID_MODEL where there are none, or a shard is missing.
    """
    found = [index for index in _INDEXES if (folder / index).is_file()]
    whole = [name for name in _WEIGHTS if (folder / name).is_file()]
    if found and not (whole and ".bin" in found[0] and whole[0].endswith(".safetensors")):
        shards = read_json(folder / found[0]).get("weight_map", {})
        names = sorted({str(name) for name in shards.values()} if isinstance(shards, dict) else ())
        missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if missing or not names:
            raise _invalid(f"'{found[0]}' names weights that are not there: {', '.join(missing[:5]) or 'none'}.")
        return [folder / name for name in names]
    others = whole[:1] or sorted(path.name for path in folder.glob("*.safetensors"))
    if not others:
        raise _invalid(f"'{folder.name}' has a configuration and no weights; '{_WEIGHTS[0]}' belongs beside it.")
    return [folder / name for name in others]


def _describe(part: Path, root: Path) -> dict[str, Any]:
    config = read_json(part / "config.json")
    shown = (part / "config.json").relative_to(root).as_posix()
    _refuse_code(config, shown)
    files = weight_files(part)
    tensors = {name: tensor for file in files for name, tensor in _tensors(file).items()}
    metadata = {key: str(config[key]) for key in _SHOWN if config.get(key)}
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        metadata["architectures"] = ", ".join(map(str, architectures))
    metadata["weights"] = ", ".join(file.relative_to(root).as_posix() for file in files)
    described = describe_tensors(tensors, shown)
    component = "model" if part == root else part.name
    return {**described, "component": component, "metadata": {key: text[:1000] for key, text in metadata.items()}}


def _tensors(file: Path) -> dict[str, TensorInfo]:
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    return {name: tensor for part in read_checkpoint(file).state_dicts.values() for name, tensor in part.items()}


def _refuse_code(config: dict[str, Any], shown: str) -> None:
    if asked := config.get("auto_map"):
        what = ", ".join(map(str, asked.values())) if isinstance(asked, dict) else str(asked)
        raise EngineFailure(
            FailureReason.UNSAFE_MODEL,
            f"'{shown}' asks for code that is not a part of transformers (`auto_map`: {what[:200]}); none is run.",
            evidence=what[:300],
            suggested_fix="Upload a model whose architecture is a part of transformers, or a state dict with its "
            "architecture.",
        )


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        message,
        suggested_fix="Upload everything that model.save_pretrained(folder) wrote.",
    )
