"""The configurations of a Hugging Face directory: the one that a model is built from, and those that travel with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.files import read_json
from engines.formats.huggingface.description import refuse_code

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


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Return a directory's configuration, after every configuration in it was found to ask for no code.

    Raises:
        EngineFailure: INVALID_MODEL if it is missing or not a JSON object; UNSAFE_MODEL if one asks for remote code.
    """
    config = read_json(folder / name)
    if not config:
        have = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The Hugging Face directory has no {name}; it has {have}.",
            suggested_fix="Upload the whole folder that save_pretrained(folder) wrote.",
        )
    refuse_code(folder)
    quantized = config.get("quantization_config")
    if isinstance(quantized, Mapping):
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The weights are stored quantized by '{quantized.get('quant_method', 'an unnamed tool')}', which cannot "
            "be read as numbers.",
            suggested_fix="Upload the model before it was quantized; Lathe quantizes it for the device.",
        )
    return config


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
