"""The files of a Hugging Face directory: looked through before anything of them is loaded. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.inspection.formats import read_json
from engines.inspection.pth import read_checkpoint
from engines.inspection.sniff import sniff

_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model")
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "chat_template.jinja",
)
_CONFIGURATION = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "modules.json",
    "model_index.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "scheduler/scheduler_config.json",
)

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


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Return a directory's configuration, after every configuration in it was found to ask for no code.

    Raises:
        EngineFailure: INVALID_MODEL where it is missing or no JSON object; UNSAFE_MODEL where one asks for remote code.
    """
    config = read_json(folder / name)
    if not config:
        have = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The Hugging Face directory has no {name}; it has {have}.",
            suggested_fix="Upload the whole folder that save_pretrained(folder) wrote.",
        )
    for path in (folder / name for name in _ASKING):
        _refuse_code(path, read_json(path))
    quantized = config.get("quantization_config")
    if isinstance(quantized, Mapping):
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The weights are stored quantized by '{quantized.get('quant_method', 'an unnamed tool')}', which cannot "
            "be read as numbers.",
            suggested_fix="Upload the model before it was quantized; Lathe quantizes it for the device.",
        )
    return config


def find_weights(folder: Path) -> list[Path]:
    """Return the files of the weights, each whole and safe to load: safetensors, else pickles of tensors alone.

    Raises:
        EngineFailure: INVALID_MODEL where there are none, one is missing, empty or damaged; UNSAFE_MODEL for a pickle
            that refers to code.
    """
    for suffix in (".safetensors", ".bin"):
        for stem in _STEMS:
            index = folder / f"{stem}{suffix}.index.json"
            whole = folder / f"{stem}{suffix}"
            if whole.is_file() or index.is_file():
                files = [whole] if whole.is_file() else _shards(index)
                for path in files:
                    _check_weights(path)
                return files
    have = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_file())[:20])
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"The Hugging Face directory has no weights of PyTorch; it has {have or 'no file'}.",
        suggested_fix="Upload model.safetensors as save_pretrained(folder) writes it; weights for TensorFlow, Flax or "
        "llama.cpp must be loaded and saved so first.",
    )


def companions(root: Path, folder: Path) -> dict[str, Path]:
    """Return what travels with a package, by path in it: tokenizer and configuration.

    Args:
        root: The model's directory; of a pipeline, the pipeline's.
        folder: The component's directory.
    """
    found = {f"configuration/{name}": root / name for name in _CONFIGURATION}
    found |= {f"tokenizer/{name}": root / name for name in _TOKENIZER}
    if folder != root:
        found[f"configuration/{folder.name}/config.json"] = folder / "config.json"
        tokenizers = [path for path in sorted(root.glob("tokenizer*")) if path.is_dir()]
        found |= {f"{path.name}/{name}": path / name for path in tokenizers for name in _TOKENIZER}
    return {name: path for name, path in found.items() if path.is_file()}


def _refuse_code(path: Path, values: Mapping[str, Any]) -> None:
    asked = values.get("auto_map") or values.get("custom_pipelines")
    if path.name == "model_index.json":
        parts = {key: value[0] for key, value in values.items() if isinstance(value, list) and value}
        asked = asked or next(
            (f"{key}: {name}" for key, name in parts.items() if _is_code(path.parent, key, name)), None
        )
    if asked:
        shown = ", ".join(map(str, asked.values())) if isinstance(asked, Mapping) else asked
        raise EngineFailure(
            FailureReason.UNSAFE_MODEL,
            f"'{path.name}' asks for code of the model's own ({shown}); code is not run.",
            evidence=str(asked)[:1000],
            suggested_fix="If transformers has this architecture itself, remove the entry 'auto_map'; else export the "
            "model with torch.export or to ONNX where you trust its code, and upload that.",
        )


def _is_code(folder: Path, key: str, library: Any) -> bool:
    """Return whether a pipeline's part is built by a Python file that lies in the directory."""
    return key == "_class_name" or (isinstance(library, str) and (folder / key / f"{library}.py").is_file())


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{index.name}' has no 'weight_map', which says in which file each tensor lies.",
            suggested_fix="Upload the index as save_pretrained() wrote it.",
        )
    names = sorted(set(map(str, weight_map.values())))
    for name in names:
        if PurePath(name).name != name:
            raise EngineFailure(
                FailureReason.UNSAFE_MODEL,
                f"'{index.name}' names the file '{name}', which lies in another folder; it was not read.",
                suggested_fix="Weights lie beside their index: upload the folder as save_pretrained() wrote it.",
            )
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The weights lie in {len(names)} files; of these, {_list(missing)} {_are(missing)} missing.",
            suggested_fix="Upload every file that the index names.",
        )
    return [index.parent / name for name in names]


def _check_weights(path: Path) -> None:
    if path.suffix != ".safetensors":
        read_checkpoint(path)
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return
    except (SafetensorError, OSError) as error:
        looks = sniff(path)
        what = f"it looks like {looks}" if looks != "a safetensors file" else f"it is damaged ({first_line(error)})"
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The weights '{path.name}' cannot be read: {what}.",
            suggested_fix="Upload the file that save_pretrained() wrote, whole.",
        ) from error


def _are(values: Sequence[str]) -> str:
    return "is" if len(values) == 1 else "are"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
