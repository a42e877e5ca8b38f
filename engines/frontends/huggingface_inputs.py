"""The inputs of transformers' models: told from the configuration, before weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.conversion_request import ComponentInput
from engines.failures import EngineFailure, FailureReason
from engines.inspection.formats import read_json

LARGEST_BATCH = 4
"""Largest batch where the template says none."""
LONGEST_TEXT = 512
"""Most tokens where the template says none, if the model takes as many."""
USUAL_TEXT = 128
"""Tokens that a form is tuned for."""

_USUAL_IMAGE = 224
_SECOND = 16_000
"""Samples of a second of sound, as models of speech take it."""
_OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "mpnet"}
)
"""Types of model whose position table begins with places for padding, two of which no text can take."""


def inputs_of(config: Any, main_input: str, arguments: Mapping[str, Any], folder: Path) -> tuple[ComponentInput, ...]:
    """Return the inputs of a model of text, images or sound, for one sample; text and images where it takes both.

    Args:
        config: The configuration, as transformers reads it.
        main_input: What the model takes first: `input_ids`, `pixel_values`, `input_values` or `input_features`.
        arguments: The parameters of its `forward`.
        folder: Its directory, where the size of images may be said.

    Raises:
        EngineFailure: INVALID_SPEC for a model of something else, whose inputs must be declared.
    """
    if main_input == "pixel_values":
        return (_image(config, folder),)
    if main_input != "input_ids":
        return (sound_input(main_input, config),)
    inputs = [text_input("input_ids", config), mask_input("attention_mask", config)]
    types = getattr(config, "type_vocab_size", 0) or 0
    if types > 1 and "token_type_ids" in arguments:
        inputs.append(_tokens("token_type_ids", config, 0, types - 1))
    if hasattr(config, "vision_config"):
        inputs.append(_image(config.vision_config, folder))
    return tuple(given for given in inputs if given.name in arguments)


def text_input(name: str, config: Any) -> ComponentInput:
    """Return an input of tokens, of any length that the model takes."""
    return _tokens(name, config, 0, config.get_text_config().vocab_size - 1)


def mask_input(name: str, config: Any) -> ComponentInput:
    """Return an input that says which tokens count; generated samples let all count."""
    return _tokens(name, config, 1, 1)


def hidden_input(name: str, config: Any) -> ComponentInput:
    """Return an input of hidden states: one per token, or per frame of sound, which are of one number."""
    width = int(config.hidden_size)
    if frames := getattr(config, "max_source_positions", None):
        return ComponentInput(name=name, dtype="float32", shape=(1, frames, width))
    shapes = {part: (*extents, width) for part, extents in _lengths(config).items()}
    return ComponentInput(name=name, dtype="float32", **shapes)


def sound_input(name: str, config: Any) -> ComponentInput:
    """Return an input of sound: a wave of any length up to ten seconds, or as many frames as the model takes.

    Raises:
        EngineFailure: INVALID_SPEC where the configuration does not say its shape.
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


def _tokens(name: str, config: Any, low: int, high: int) -> ComponentInput:
    return ComponentInput(name=name, dtype="int64", sample_min=low, sample_max=high, **_lengths(config))


def _lengths(config: Any) -> dict[str, tuple[int, ...]]:
    text = config.get_text_config()
    names = ("max_position_embeddings", "max_target_positions")
    limit = next((int(value) for name in names if (value := getattr(text, name, None))), LONGEST_TEXT)
    if text.model_type in _OFFSET_POSITIONS:
        limit -= 2
    longest = min(LONGEST_TEXT, limit)
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
