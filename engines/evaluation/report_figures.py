"""The figures of an evaluation report that are specific to a method: classes, boxes, vectors, outputs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of a report, without unknown fields and with finite figures only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Averages(Part):
    """Precision, recall and F1 averaged over classes."""

    precision: float
    recall: float
    f1: float


class ClassFigures(Part):
    """One class of a classification task. `support` counts its samples, `predicted` the samples predicted as it.

    Precision is 0 if nothing was predicted as the class, recall is 0 if it has no sample, as in scikit-learn.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


class ConfusionMatrix(Part):
    """How often a true class (row) was predicted as another (column).

    Attributes:
        classes: Names of rows and columns. Of many classes only the most confused are listed, then one for the rest.
        counts: Samples, one list per true class.
        left_out: Number of classes in the last row and column; 0 if every class has its own.
        not_predicted: Samples without a prediction, because their scores were not finite; they are in no cell.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    left_out: int = 0
    not_predicted: int = 0


class ClassificationTask(Part):
    """One classification task of the model. `top5` is None if there are at most five classes."""

    task: str
    samples: int
    top1: float
    top5: float | None = None
    macro: Averages
    weighted: Averages
    classes: tuple[ClassFigures, ...]
    confusion: ConfusionMatrix


class DetectionClass(Part):
    """One class of a detector. Figures are None if the data has no box of it.

    `ap` is over COCO's range of thresholds, `ar100` with at most 100 boxes per image.
    """

    name: str
    truths: int
    detections: int
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ar100: float | None = None


class PrecisionRecallCurve(Part):
    """Precision over recall at one threshold of intersection over union; `name` is a class, or empty for the mean.

    `precision` is interpolated as in COCO: the largest at this recall or a higher one, at 101 recalls from 0 to 1.
    """

    name: str
    iou: float
    ap: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]


class DetectionFigures(Part):
    """Results of a detector. `areas` counts the true boxes by size: small < 32² ≤ medium < 96² ≤ large, in pixels."""

    iou_thresholds: tuple[float, ...]
    truths: int
    detections: int
    areas: dict[Literal["small", "medium", "large"], int]
    classes: tuple[DetectionClass, ...]
    curves: tuple[PrecisionRecallCurve, ...]


class EmbeddingFigures(Part):
    """The vectors of an embedding model: lengths, spread, and the keys of the data that retrieval is evaluated by.

    `mean_cosine` is the mean cosine similarity of two different vectors, near 1 if all have the same direction.
    """

    dimension: int
    norm_min: float
    norm_mean: float
    norm_max: float
    mean_cosine: float
    retrieval_keys: tuple[str, ...] = ()


class OutputFigures(Part):
    """One output of the model over all samples. Statistics are of the finite elements; None if there are none."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    not_finite: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
