"""The common tasks of transformers' models: known by the names of their architectures, and the outputs that count."""

from __future__ import annotations

from dataclasses import dataclass

from engines.failures import EngineFailure, FailureReason

ENCODER, DECODER = "encoder", "decoder"
"""Names of the components of a model that writes one text from another."""


@dataclass(frozen=True)
class Task:
    """A task of transformers: the end of its architectures' names, and the outputs that count, in order."""

    name: str
    suffixes: tuple[str, ...]
    outputs: tuple[str, ...]


SEQ2SEQ = Task("text to text", ("ForConditionalGeneration", "MTModel"), ("logits",))
"""Its models are read as an encoder and a decoder; some of them take speech instead of text."""

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
    Task("audio classification", ("ForAudioClassification",), ("logits",)),
    Task("speech recognition", ("ForCTC",), ("logits",)),
    SEQ2SEQ,
    FEATURES,
)


def task_of(architecture: str) -> Task:
    """Return the task of an architecture by its name; feature extraction if there is no name.

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
        f"The architecture '{architecture}' is for a task that Lathe does not read; it reads: "
        f"{', '.join(task.name for task in TASKS)}.",
        suggested_fix="Export the model with torch.export or to ONNX, and upload that.",
    )
