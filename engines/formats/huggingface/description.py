"""The files of a Hugging Face directory: its configurations and weights, described without running anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.described_tensors import TensorInfo, describe_tensors
from engines.formats.detection import check_format
from engines.formats.files import read_json
from engines.formats.huggingface.safetensors import read_safetensors
from engines.formats.pytorch.description import read_checkpoint

_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model")
_ASKING = (
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "generation_config.json",
    "model_index.json",
)
"""Configurations that can ask for code of the model's own."""


def refuse_code(folder: Path) -> None:
    """Refuse a directory in which a configuration asks for code of the model's own.

    Raises:
        EngineFailure: UNSAFE_MODEL for such a directory, INVALID_MODEL for a configuration that is not a JSON object.
    """
    for path in (folder / name for name in _ASKING):
        asked = _asked(path, read_json(path))
        if asked:
            raise EngineFailure(
                FailureReason.UNSAFE_MODEL,
                f"'{path.name}' asks for code of the model's own ({asked[:200]}); none is run.",
                evidence=asked[:1000],
                suggested_fix="If transformers has this architecture itself, remove the entry 'auto_map'; else export "
                "the model with torch.export or to ONNX on a machine that may run its code, and upload that.",
            )


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a model's weights, which are there: safetensors before pickles, one file before shards.

    Raises:
        EngineFailure: INVALID_MODEL if there are none or one is missing, UNSAFE_MODEL for an index that names a file
            of another folder.
    """
    for suffix in (".safetensors", ".bin"):
        for stem in _STEMS:
            whole, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
            if whole.is_file():
                return [whole]
            if index.is_file():
                return _shards(index)
    where = f" in '{folder.name}'" if (folder.parent / "model_index.json").is_file() else ""
    have = _list(sorted(path.name for path in folder.iterdir() if path.is_file()), most=20)
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"The Hugging Face directory has no weights of PyTorch{where}; it has {have}.",
        suggested_fix="Upload model.safetensors as save_pretrained(folder) writes it; weights for TensorFlow, Flax or "
        "llama.cpp, and those of a variant (model.fp16.safetensors), must be loaded and saved so first.",
    )


def read_weights(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a file of weights, which is whole and safe to load.

    Raises:
        EngineFailure: INVALID_MODEL for an empty or a damaged file, UNSAFE_MODEL for a pickle that refers to code.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return {name: tensor for part in read_checkpoint(path).state_dicts.values() for name, tensor in part.items()}


def _asked(path: Path, values: Mapping[str, Any]) -> str:
    """Return the code that a configuration asks for, in words; empty if it asks for none."""
    for key in ("auto_map", "custom_pipelines"):
        if asked := values.get(key):
            return f"{key}: {', '.join(map(str, asked.values())) if isinstance(asked, Mapping) else asked}"
    if path.name != "model_index.json":
        return ""
    parts = {key: value[0] for key, value in values.items() if isinstance(value, list) and value}
    return next((f"{key}: {name}" for key, name in parts.items() if _is_code(path.parent, key, name)), "")


def _is_code(folder: Path, key: str, library: Any) -> bool:
    """Return whether a pipeline's part is built by a Python file in the directory."""
    return key == "_class_name" or (isinstance(library, str) and (folder / key / f"{library}.py").is_file())


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{index.name}' has no 'weight_map', which names the file of each tensor.",
            suggested_fix="Upload the index as save_pretrained() wrote it.",
        )
    names = sorted(set(map(str, weight_map.values())))
    for name in names:
        if PurePath(name).name != name:
            raise EngineFailure(
                FailureReason.UNSAFE_MODEL,
                f"'{index.name}' names the file '{name}', which is in another folder; it was not read.",
                suggested_fix="Weights belong next to their index: upload the folder as save_pretrained() wrote it.",
            )
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The weights are in {len(names)} files; of these, {_list(missing)} {'is' if len(missing) == 1 else 'are'} "
            "missing.",
            suggested_fix="Upload every file that the index names.",
        )
    return [index.parent / name for name in names]


def _list(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "no file"


_SHOWN = ("model_type", "_class_name", "torch_dtype", "dtype", "transformers_version", "_diffusers_version")


def describe_huggingface(folder: Path) -> list[dict[str, Any]]:
    """Return a `GraphDescription` for the model of a directory, or for each model of a pipeline.

    Raises:
        EngineFailure: INVALID_MODEL for another directory, or weights that are missing, empty or damaged; UNSAFE_MODEL
            for a configuration that asks for its own code, or pickled weights that refer to code.
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
