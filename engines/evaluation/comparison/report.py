"""The report of a comparison: `comparison.json` is this model, whole. Units are those of `report.py`."""

from __future__ import annotations

from typing import Literal

from engines.evaluation.report import MetricValue, PackageInfo, SliceInfo, TaskAnswer, Times
from engines.evaluation.report_figures import Part


class ExactTest(Part):
    """McNemar's exact test: of the samples that one side alone has right, is the split a coin's?

    Attributes:
        lost: Samples that the reference has right and the evaluation wrong.
        won: Samples that the evaluation has right and the reference wrong.
        p_value: Chance of a split at least as uneven, were both equally good (two-sided binomial test).
    """

    lost: int
    won: int
    p_value: float


class ComparedEvaluation(Part):
    """One of the evaluations.

    Attributes:
        name: Name that it was given, `evaluationTasks/…`.
        samples: Samples that it judged; those that not all evaluations judged are left out of every figure.
        agreement: Part of the shared samples on which it agrees with the reference: the same class in every task; the
            same boxes; for embeddings the mean cosine of the angle between both vectors. None if not defined.
        test: Of right and wrong samples; absent for the reference, and where nothing is known to be true.
    """

    name: str
    package: PackageInfo
    samples: int
    times: Times
    agreement: float | None = None
    test: ExactTest | None = None


class Delta(Part):
    """Difference of a metric between an evaluation and the reference, on the shared samples.

    `reference` and `value` are the metric of both; `delta` is their difference with its paired interval.
    """

    task: str
    delta: MetricValue
    reference: float
    value: float


class Regression(Part):
    """A sample that the reference has right, or better, and the evaluation worse.

    Attributes:
        sample: Its path in the dataset; rows of a tensor file as `path[row]`.
        task: The evaluation.
        loss: How much worse: for classifiers the part of its tasks that turned wrong; for detectors the rise of the
            image's loss (missed and false boxes, weighed by score) per true box; for embeddings the reciprocal rank
            lost.
        image_png: Thumbnail as base64, where one of the reports has one.
        before: What the reference says, by task.
        after: What the evaluation says, by task.
        truths: Labels of the true boxes.
        boxes_before: Labels and scores of the reference's boxes.
        boxes_after: Labels and scores of the evaluation's boxes.
    """

    sample: str
    task: str
    loss: float
    attributes: dict[str, str]
    image_png: str = ""
    before: tuple[TaskAnswer, ...] = ()
    after: tuple[TaskAnswer, ...] = ()
    truths: tuple[str, ...] = ()
    boxes_before: tuple[str, ...] = ()
    boxes_after: tuple[str, ...] = ()


class ComparisonReport(Part):
    """The whole of `comparison.json`; the first evaluation is the reference.

    `regressed` counts all samples that got worse by evaluation; `regressions` holds the worst of them.
    `agreement` is the part of the samples on which all evaluations agree; None if that is not defined.
    """

    schema_version: Literal[1] = 1
    method: str
    main_metric: str
    samples: int
    evaluations: tuple[ComparedEvaluation, ...]
    slices: tuple[SliceInfo, ...] = ()
    deltas: tuple[Delta, ...] = ()
    agreement: float | None = None
    regressed: dict[str, int]
    regressions: tuple[Regression, ...] = ()
    warnings: tuple[str, ...] = ()
    seed: int
    resamples: int

    def to_json(self) -> str:
        """Return the file's text."""
        return self.model_dump_json(indent=1) + "\n"
