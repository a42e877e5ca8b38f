"""The figures of an evaluation report that belong to one postprocess method: classes, boxes, vectors, outputs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of a report: no other fields than its own, no figure that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Averages(Part):
    """Precision, recall and F1 averaged over classes."""

    precision: float
    recall: float
    f1: float


class ClassFigures(Part):
    """One class of a classification task. `support` counts true samples, `predicted` those predicted as it.

    Precision is 0 if nothing was predicted, recall 0 if nothing was true, as in scikit-learn.
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
        classes: Names of rows and columns. Of many classes only the most confused are shown; the last is then the rest.
        counts: Samples, one list per true class.
        left_out: Number of classes that the last row and column stand for; 0 if every class is shown.
        not_predicted: Samples without a prediction, because the scores were not finite: in no cell.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    left_out: int = 0
    not_predicted: int = 0


class ClassificationTask(Part):
    """One classification task of the model. `top5` is absent if there are no more than five classes."""

    task: str
    samples: int
    top1: float
    top5: float | None = None
    macro: Averages
    weighted: Averages
    classes: tuple[ClassFigures, ...]
    confusion: ConfusionMatrix


class DetectionClass(Part):
    """One class of a detector. Figures are absent if the data has no box of it.

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
    """Precision over recall at one threshold of intersection over union; `name` is a class, empty for the mean of all.

    `precision` is interpolated as COCO does: the largest at this recall or beyond, at 101 recalls from 0 to 1.
    """

    name: str
    iou: float
    ap: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]


class DetectionFigures(Part):
    """What a detector found. `areas` counts the true boxes by size: small < 32² ≤ medium < 96² ≤ large, in pixels."""

    iou_thresholds: tuple[float, ...]
    truths: int
    detections: int
    areas: dict[Literal["small", "medium", "large"], int]
    classes: tuple[DetectionClass, ...]
    curves: tuple[PrecisionRecallCurve, ...]


class EmbeddingFigures(Part):
    """The vectors of an embedding model: lengths, spread, and by which keys of the data retrieval was judged.

    `mean_cosine` is the mean cosine of the angle between two different vectors, near 1 if all point the same way.
    """

    dimension: int
    norm_min: float
    norm_mean: float
    norm_max: float
    mean_cosine: float
    retrieval_keys: tuple[str, ...] = ()


class OutputFigures(Part):
    """One output of the model over all samples. Statistics are of the finite elements; absent if there are none."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    not_finite: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
