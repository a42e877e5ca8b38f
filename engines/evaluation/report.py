"""The report of an evaluation: `report.json` is this model, whole.

All figures are fractions from 0 to 1, times are milliseconds, boxes are pixels of the image. A figure that is not
defined (the AP of a class without boxes) is absent or None, never NaN.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MetricValue(_Part):
    """One figure with its 95 % percentile bootstrap interval; field names are those of `lathe.evaluator.v1.Metric`.

    `slice` is `scene=night`, or empty for all data.
    """

    name: str
    value: float
    low: float
    high: float
    slice: str = ""


class SliceInfo(_Part):
    """A part of the data: its name as metrics carry it (`scene=night`) and how many samples it has."""

    name: str
    samples: int


class Averages(_Part):
    """Precision, recall and F1 averaged over classes."""

    precision: float
    recall: float
    f1: float


class ClassFigures(_Part):
    """One class of a classification task. `support` counts true samples, `predicted` those predicted as it.

    Precision is 0 where nothing was predicted, recall 0 where nothing was true, as in scikit-learn.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


class ConfusionMatrix(_Part):
    """How often a true class (row) was predicted as another (column).

    Attributes:
        classes: Names of rows and columns. Of many classes only the most confused are shown; the last is then the rest.
        counts: Samples, one list per true class.
        left_out: Number of classes that the last row and column stand for; 0 where every class is shown.
        not_predicted: Samples without a prediction, because the scores were not finite: in no cell.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    left_out: int = 0
    not_predicted: int = 0


class ClassificationTask(_Part):
    """One classification task of the model. `top5` is absent where there are no more than five classes."""

    task: str
    samples: int
    top1: float
    top5: float | None = None
    macro: Averages
    weighted: Averages
    classes: tuple[ClassFigures, ...]
    confusion: ConfusionMatrix


class DetectionClass(_Part):
    """One class of a detector. Figures are absent where the data has no box of it.

    `ap` is over COCO's range of thresholds, `ar100` with at most 100 boxes per image.
    """

    name: str
    truths: int
    detections: int
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ar100: float | None = None


class PrecisionRecallCurve(_Part):
    """Precision over recall at one threshold of intersection over union; `name` is a class, empty for the mean of all.

    `precision` is interpolated as COCO does: the largest at this recall or beyond, at 101 recalls from 0 to 1.
    """

    name: str
    iou: float
    ap: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]


class DetectionFigures(_Part):
    """What a detector found. `areas` counts the true boxes by size: small < 32² ≤ medium < 96² ≤ large, in pixels."""

    iou_thresholds: tuple[float, ...]
    truths: int
    detections: int
    areas: dict[Literal["small", "medium", "large"], int]
    classes: tuple[DetectionClass, ...]
    curves: tuple[PrecisionRecallCurve, ...]


class EmbeddingFigures(_Part):
    """The vectors of an embedding model: lengths, spread, and by which keys of the data retrieval was judged.

    `mean_cosine` is the mean cosine of the angle between two different vectors, near 1 where all point the same way.
    """

    dimension: int
    norm_min: float
    norm_mean: float
    norm_max: float
    mean_cosine: float
    retrieval_keys: tuple[str, ...] = ()


class OutputFigures(_Part):
    """One output of the model over all samples. Statistics are of the finite elements; absent where there are none."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    not_finite: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None


class Histogram(_Part):
    """Counts between edges; one edge more than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Times(_Part):
    """Where the time goes. The first four are means per sample; latencies are of one call of the model with a batch."""

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


class TaskAnswer(_Part):
    """Truth and prediction of one classification task; `truth` is empty where it is not known."""

    task: str
    truth: str
    predicted: str
    score: float
    correct: bool | None = None


class WorstSample(_Part):
    """A sample with a large loss.

    Attributes:
        number: Number of the item in the selection, from 0.
        loss: What it was sorted by: cross-entropy of classifications; for detections the true boxes, each less the
            score of its match, plus the scores of false boxes.
        image_png: Thumbnail as base64: for detections with predictions and truth drawn; empty for tensors.
        answers: Truth and prediction of each classification task.
        truths: Labels of the true boxes.
        detections: Labels of the predicted boxes with their scores, as `car 0.93`.
    """

    number: int
    path: str
    loss: float
    attributes: dict[str, str]
    image_png: str = ""
    answers: tuple[TaskAnswer, ...] = ()
    truths: tuple[str, ...] = ()
    detections: tuple[str, ...] = ()


class PackageInfo(_Part):
    """The package that was evaluated."""

    repo: str
    version: str
    device: str
    runtime: str
    runtime_version: str
    precision: str
    component: str
    size_bytes: int


class SpecInfo(_Part):
    """What was asked for, with defaults filled in. `preprocessing` has a phrase per step."""

    method: str
    args: dict[str, int | float | str | list[int] | list[float] | list[str]]
    data: Literal["dataset", "images"]
    iou_thresholds: tuple[float, ...]
    slices: tuple[str, ...]
    class_tasks: tuple[str, ...]
    preprocessing: tuple[str, ...]
    seed: int
    resamples: int


class Software(_Part):
    """A program that took part."""

    name: str
    version: str


class EvaluationReport(_Part):
    """The whole of `report.json`. What belongs to another method is empty or None."""

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
