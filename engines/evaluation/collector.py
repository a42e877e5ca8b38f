"""What every method of evaluation does: take predictions sample by sample, then say how good they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from engines.evaluation.feeder import Sample
from engines.evaluation.groups import Group
from engines.evaluation.predictions import SamplePrediction
from engines.evaluation.report import MetricValue


class Collector(Protocol):
    """Judges predictions against what is true."""

    classes: Mapping[str, tuple[str, ...]]
    """Names of the classes by task."""

    late: bool = False
    """Whether rows are complete only after `settled`; the caller keeps them until then."""

    @property
    def main_metric(self) -> str:
        """Name of the figure that counts most; empty if nothing can be judged."""
        ...

    def add(self, sample: Sample, prediction: Mapping[str, Any], *, finite: bool) -> SamplePrediction:
        """Take one sample; `finite` says whether every value of its outputs is.

        Samples come in order, the first at position 0.
        """
        ...

    def settled(self, rows: Sequence[SamplePrediction]) -> Sequence[SamplePrediction]:
        """Return the rows of all samples, with values that depend on all of them."""
        return rows

    def metrics(self, groups: Sequence[Group], resamples: int, seed: int) -> list[MetricValue]:
        """Return every figure of every group, with intervals from so many draws."""
        ...

    def parts(self) -> dict[str, Any]:
        """Return the fields of `EvaluationReport` that belong to the method."""
        ...

    def warnings(self) -> list[str]:
        """Return what a user should know, a sentence each."""
        ...


def row(sample: Sample, **values: Any) -> SamplePrediction:
    """Return the prediction of a sample: what its item says, and the values."""
    item = sample.item
    return SamplePrediction(
        number=sample.number,
        path=item.path,
        sha256=item.sha256,
        row=item.row,
        width=item.width,
        height=item.height,
        attributes=item.attributes,
        **values,
    )
