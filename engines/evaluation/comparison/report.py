"""The report of a comparison, which is written as `comparison.json`. Units are those of `evaluation/report.py`."""

from __future__ import annotations

from typing import Literal

from engines.evaluation.report import MetricValue, PackageInfo, SliceInfo, TaskAnswer, Times
from engines.evaluation.report_figures import Part


class ExactTest(Part):
    """McNemar's exact test: could the samples that only one side has right be split between the sides by chance?

    Attributes:
        lost: Samples that the reference has right and the evaluation wrong.
        won: Samples that the evaluation has right and the reference wrong.
        p_value: Probability of a split at least as uneven if both are equally good (two-sided binomial test).
    """

    lost: int
    won: int
    p_value: float


class ComparedEvaluation(Part):
    """One of the evaluations.

    Attributes:
        name: Name of the evaluation, `evaluationTasks/…`.
        samples: Number of its samples; those that are not in all evaluations are left out of every figure.
        agreement: Share of the shared samples on which it agrees with the reference: the same class in every task, or
            the same boxes; for embeddings the mean cosine similarity of both vectors. None if not defined.
        test: Test of right and wrong samples; None for the reference, and if the truth is unknown.
    """

    name: str
    package: PackageInfo
    samples: int
    times: Times
    agreement: float | None = None
    test: ExactTest | None = None


class Delta(Part):
    """Difference of a metric between an evaluation and the reference, on the shared samples.

    `reference` and `value` are the metric of the reference and of the evaluation; `delta` is their difference with its
    paired interval.
    """

    task: str
    delta: MetricValue
    reference: float
    value: float


class Regression(Part):
    """A sample on which the evaluation is worse than the reference.

    Attributes:
        sample: Its path in the dataset; rows of a tensor file as `path[row]`.
        task: The evaluation.
        loss: How much worse: for classifiers the share of tasks that became wrong; for detectors the increase of the
            image's loss (missed and false boxes, weighted by score) per true box; for embeddings the decrease of the
            reciprocal rank.
        image_png: Thumbnail as base64, if one of the reports has one.
        before: The reference's answers by task.
        after: The evaluation's answers by task.
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
    """The contents of `comparison.json`; the first evaluation is the reference.

    `regressed` has the number of samples that got worse, by evaluation; `regressions` lists the worst of them.
    `agreement` is the share of the samples on which all evaluations agree; None if not defined.
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
