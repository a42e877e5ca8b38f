"""The inputs of transformers' models: derived from the configuration, before weights are read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.files import read_json
from engines.formats.huggingface.loading import quiet
from engines.tensors.inputs import ComponentInput

log = logging.getLogger(__name__)

LARGEST_BATCH = 4
"""Largest batch if the template says none."""
LONGEST_TEXT = 512
"""Most tokens if the template says none and the model takes as many."""
USUAL_TEXT = 128
"""Tokens that a form is tuned for."""

_USUAL_IMAGE = 224
_SECOND = 16_000
"""Samples of a second of sound, as models of speech take it."""


def longest_text(kind: Any, config: Any) -> int:
    """Return the most tokens that a model is read with: as many as it has positions for, or `LONGEST_TEXT`.

    Some families count positions from behind the place for padding, as RoBERTa does, so that their tables begin with
    places that no text can take. Their tables have a padding index; the model is built without its weights to ask.

    Args:
        kind: Its class.
        config: Its configuration, as transformers reads it.
    """
    text = config.get_text_config()
    names = ("max_position_embeddings", "max_target_positions")
    places = next((int(value) for name in names if (value := getattr(text, name, None))), None)
    return LONGEST_TEXT if places is None else min(LONGEST_TEXT, places - _reserved(kind, config, places))


def _reserved(kind: Any, config: Any, places: int) -> int:
    """Return how many of a model's positions no text can take."""
    import torch

    try:
        with torch.device("meta"), quiet():
            modules = dict(kind(config).named_modules())
    except Exception as error:
        log.info("The model cannot be built without its weights: %s", first_line(error))
        return 0  # loading it will say what is wrong
    found = [
        int(module.padding_idx) + 1
        for name, module in modules.items()
        if "position" in name and getattr(module, "padding_idx", None) is not None and len(module.weight) == places
    ]
    return max(found, default=0)


def inputs_of(config: Any, kind: Any, arguments: Mapping[str, Any], folder: Path) -> tuple[ComponentInput, ...]:
    """Return the inputs of a model of text, images or sound, for one sample; text and images if it takes both.

    Args:
        config: The configuration, as transformers reads it.
        kind: Its class, whose `main_input_name` is `input_ids`, `pixel_values`, `input_values` or `input_features`.
        arguments: The parameters of its `forward`.
        folder: Its directory, which may state the size of images.

    Raises:
        EngineFailure: INVALID_SPEC for a model of something else, whose inputs must be declared.
    """
    if kind.main_input_name == "pixel_values":
        return (_image(config, folder),)
    if kind.main_input_name != "input_ids":
        return (sound_input(kind.main_input_name, config),)
    longest = longest_text(kind, config)
    inputs = [text_input("input_ids", config, longest), mask_input("attention_mask", longest)]
    types = getattr(config, "type_vocab_size", 0) or 0
    if types > 1 and "token_type_ids" in arguments:
        inputs.append(_tokens("token_type_ids", longest, 0, types - 1))
    if hasattr(config, "vision_config"):
        inputs.append(_image(config.vision_config, folder))
    return tuple(given for given in inputs if given.name in arguments)


def text_input(name: str, config: Any, longest: int) -> ComponentInput:
    """Return an input of tokens, of any length that the model takes."""
    return _tokens(name, longest, 0, config.get_text_config().vocab_size - 1)


def mask_input(name: str, longest: int) -> ComponentInput:
    """Return an input that says which tokens count; generated samples let all count."""
    return _tokens(name, longest, 1, 1)


def hidden_input(name: str, config: Any, longest: int) -> ComponentInput:
    """Return an input of hidden states: one per token, or per frame of sound, which are of one number."""
    width = int(config.hidden_size)
    if frames := getattr(config, "max_source_positions", None):
        return ComponentInput(name=name, dtype="float32", shape=(1, frames, width))
    shapes = {part: (*extents, width) for part, extents in _lengths(longest).items()}
    return ComponentInput(name=name, dtype="float32", **shapes)


def sound_input(name: str, config: Any) -> ComponentInput:
    """Return an input of sound: a wave of any length up to ten seconds, or as many frames as the model takes.

    Raises:
        EngineFailure: INVALID_SPEC if the configuration does not say its shape.
    """
    bands = getattr(config, "num_mel_bins", None)
    if name == "input_values" and hasattr(config, "conv_kernel"):
        return ComponentInput(
            name=name, dtype="float32", shape=(1, _SECOND), min_shape=(1, _SECOND // 10), max_shape=(1, 10 * _SECOND)
        )
    if name == "input_values" and bands and hasattr(config, "max_length"):
        return ComponentInput(name=name, dtype="float32", shape=(1, config.max_length, bands))
    if name == "input_features" and bands and hasattr(config, "max_source_positions"):
        return ComponentInput(name=name, dtype="float32", shape=(1, bands, 2 * config.max_source_positions))
    raise EngineFailure(
        FailureReason.INVALID_SPEC,
        f"The model takes '{name}', whose shape its configuration does not say.",
        suggested_fix=f"Declare the input '{name}' in the template, with shape and dtype.",
    )


def _tokens(name: str, longest: int, low: int, high: int) -> ComponentInput:
    return ComponentInput(name=name, dtype="int64", sample_min=low, sample_max=high, **_lengths(longest))


def _lengths(longest: int) -> dict[str, tuple[int, ...]]:
    return {"shape": (1, min(USUAL_TEXT, longest)), "min_shape": (1, 1), "max_shape": (1, longest)}


def _image(config: Any, folder: Path) -> ComponentInput:
    processor = read_json(folder / "preprocessor_config.json")
    stated = (getattr(config, "image_size", None), processor.get("crop_size"), processor.get("size"))
    height, width = next((pair for value in stated if (pair := _pair(value))), (_USUAL_IMAGE, _USUAL_IMAGE))
    channels = int(getattr(config, "num_channels", None) or 3)
    return ComponentInput(name="pixel_values", shape=(1, channels, height, width), dtype="float32")


def _pair(value: Any) -> tuple[int, int] | None:
    """Return height and width of a size as configurations write it: a number, a pair, or a mapping of either."""
    if isinstance(value, Mapping):
        edge = value.get("shortest_edge")
        value = (value.get("height", edge), value.get("width", edge))
    pair = (value, value) if isinstance(value, int) else tuple(value or ())
    return (int(pair[0]), int(pair[1])) if len(pair) == 2 and all(isinstance(side, int) for side in pair) else None
