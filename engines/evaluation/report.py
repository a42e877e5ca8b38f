"""The report of an evaluation, which is written as `report.json`.

Figures are fractions from 0 to 1, times are in milliseconds, boxes in pixels of the image. An undefined figure (the AP
of a class without boxes) is absent or None, never NaN.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engines.evaluation.report_figures import (
    ClassificationTask,
    DetectionFigures,
    EmbeddingFigures,
    OutputFigures,
    Part,
)

SCHEMA_VERSION: Literal[1] = 1


class MetricValue(Part):
    """One figure with its 95 % percentile bootstrap interval; field names are those of `lathe.evaluator.v1.Metric`.

    `slice` is `scene=night`, or empty for all data.
    """

    name: str
    value: float
    low: float
    high: float
    slice: str = ""


class SliceInfo(Part):
    """A part of the data: its name as metrics carry it (`scene=night`) and how many samples it has."""

    name: str
    samples: int


class Histogram(Part):
    """Counts between edges; there is one more edge than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Times(Part):
    """Times. The first four are means per sample; latencies are of one call of the model with a batch."""

    total_ms: float
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float
    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    throughput: float
    peak_memory_bytes: int
    calls: int
    batch_size: int
    loops: int
    threads: int
    latency_histogram: Histogram


class TaskAnswer(Part):
    """Truth and prediction of one classification task; `truth` is empty if unknown."""

    task: str
    truth: str
    predicted: str
    score: float
    correct: bool | None = None


class WorstSample(Part):
    """A sample with a large loss.

    Attributes:
        number: Number of the item in the selection, from 0.
        loss: The sort key: cross-entropy for classification; for detection the number of true boxes minus the scores
            of their matches plus the scores of false boxes.
        image_png: Thumbnail as base64, for detection with predicted and true boxes drawn; empty for tensors.
        answers: Truth and prediction of each classification task.
        truths: Labels of the true boxes.
        detections: Labels of the predicted boxes with their scores, for example `car 0.93`.
    """

    number: int
    path: str
    loss: float
    attributes: dict[str, str]
    image_png: str = ""
    answers: tuple[TaskAnswer, ...] = ()
    truths: tuple[str, ...] = ()
    detections: tuple[str, ...] = ()


class PackageInfo(Part):
    """The package that was evaluated."""

    repo: str
    version: str
    device: str
    runtime: str
    runtime_version: str
    precision: str
    component: str
    size_bytes: int


class SpecInfo(Part):
    """The request with defaults filled in. `preprocessing` describes each step."""

    method: str
    args: dict[str, int | float | str | list[int] | list[float] | list[str]]
    data: Literal["dataset", "images"]
    iou_thresholds: tuple[float, ...]
    slices: tuple[str, ...]
    class_tasks: tuple[str, ...]
    preprocessing: tuple[str, ...]
    seed: int
    resamples: int


class Software(Part):
    """A library in use."""

    name: str
    version: str


class EvaluationReport(Part):
    """The contents of `report.json`. Fields of other methods are empty or None."""

    schema_version: Literal[1] = SCHEMA_VERSION
    package: PackageInfo
    spec: SpecInfo
    samples: int
    main_metric: str
    metrics: tuple[MetricValue, ...]
    slices: tuple[SliceInfo, ...] = ()
    classification: tuple[ClassificationTask, ...] = ()
    detection: DetectionFigures | None = None
    embedding: EmbeddingFigures | None = None
    outputs: tuple[OutputFigures, ...] = ()
    times: Times
    worst: tuple[WorstSample, ...] = ()
    warnings: tuple[str, ...] = ()
    software: tuple[Software, ...] = ()
    hardware: str = Field(default="")

    def to_json(self) -> str:
        """Return the file's text."""
        return self.model_dump_json(indent=1) + "\n"
