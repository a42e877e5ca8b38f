"""What transformers' models of the common tasks take and give: told from the configuration, before weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

ENCODER, DECODER = "encoder", "decoder"
"""Names of the components of a model that writes one text from another."""

_USUAL_IMAGE = 224
_OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "mpnet"}
)
"""Types of model whose position table begins with places for padding, two of which no text can take."""


@dataclass(frozen=True)
class Task:
    """A task of transformers: the end of its architectures' names, and the outputs that count, in order."""

    name: str
    suffixes: tuple[str, ...]
    outputs: tuple[str, ...]


SEQ2SEQ = Task("text to text", ("ForConditionalGeneration",), ("logits",))
FEATURES = Task(
    "feature extraction",
    ("Model", "ModelWithProjection"),
    ("text_embeds", "image_embeds", "last_hidden_state", "pooler_output"),
)
TASKS = (
    Task("sequence classification", ("ForSequenceClassification",), ("logits",)),
    Task("token classification", ("ForTokenClassification",), ("logits",)),
    Task("question answering", ("ForQuestionAnswering",), ("start_logits", "end_logits")),
    Task("masked language modelling", ("ForMaskedLM",), ("logits",)),
    Task("causal language modelling", ("ForCausalLM", "LMHeadModel"), ("logits",)),
    Task("image classification", ("ForImageClassification",), ("logits",)),
    Task("semantic segmentation", ("ForSemanticSegmentation",), ("logits",)),
    Task("object detection", ("ForObjectDetection",), ("logits", "pred_boxes")),
    SEQ2SEQ,
    FEATURES,
)


def task_of(architecture: str) -> Task:
    """Return the task of an architecture by its name; feature extraction where there is no name.

    Raises:
        EngineFailure: INVALID_MODEL for one of another task.
    """
    if not architecture:
        return FEATURES
    for task in TASKS:
        if architecture.endswith(task.suffixes):
            return task
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"The architecture '{architecture}' is of no task that Lathe reads; these are: "
        f"{', '.join(task.name for task in TASKS)}.",
        suggested_fix="Export the model with torch.export or to ONNX, and upload that.",
    )


def inputs_of(config: Any, main_input: str, arguments: Mapping[str, Any], folder: Path) -> tuple[ComponentInput, ...]:
    """Return the inputs of a model of text or of images, for one sample.

    Args:
        config: The configuration, as transformers reads it.
        main_input: What the model takes first: `input_ids` or `pixel_values`.
        arguments: The parameters of its `forward`.
        folder: Its directory, where the size of images may be said.

    Raises:
        EngineFailure: INVALID_SPEC for a model of something else, whose inputs must be declared.
    """
    if main_input == "pixel_values":
        return (_image(config, folder),)
    if main_input != "input_ids":
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The model takes '{main_input}', whose shape its configuration does not say.",
            suggested_fix=f"Declare the input '{main_input}' in the template, with shape and dtype.",
        )
    inputs = [text_input("input_ids", config), mask_input("attention_mask", config)]
    types = getattr(config, "type_vocab_size", 0) or 0
    if types > 1 and "token_type_ids" in arguments:
        inputs.append(_tokens("token_type_ids", config, 0, types - 1))
    return tuple(given for given in inputs if given.name in arguments)


def text_input(name: str, config: Any) -> ComponentInput:
    """Return an input of tokens, of any length that the model takes."""
    return _tokens(name, config, 0, config.get_text_config().vocab_size - 1)


def mask_input(name: str, config: Any) -> ComponentInput:
    """Return an input that says which tokens count; generated samples let all count."""
    return _tokens(name, config, 1, 1)


def hidden_input(name: str, config: Any) -> ComponentInput:
    """Return an input of hidden states, one per token."""
    width = int(config.hidden_size)
    shapes = {part: (*extents, width) for part, extents in _lengths(config).items()}
    return ComponentInput(name=name, dtype="float32", **shapes)


def _tokens(name: str, config: Any, low: int, high: int) -> ComponentInput:
    return ComponentInput(name=name, dtype="int64", sample_min=low, sample_max=high, **_lengths(config))


def _lengths(config: Any) -> dict[str, tuple[int, ...]]:
    text = config.get_text_config()
    limit = int(getattr(text, "max_position_embeddings", None) or LONGEST_TEXT)
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
