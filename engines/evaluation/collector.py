"""The protocol of evaluation methods: take predictions sample by sample, then return figures of their quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from engines.evaluation.feeder import Sample
from engines.evaluation.groups import Group
from engines.evaluation.predictions import SamplePrediction
from engines.evaluation.report import MetricValue


class Collector(Protocol):
    """Evaluates predictions against the truth."""

    classes: Mapping[str, tuple[str, ...]]
    """Names of the classes by task."""

    late: bool = False
    """True if rows are complete only after `settled`; the caller keeps them until then."""

    @property
    def main_metric(self) -> str:
        """Name of the main figure; empty if nothing can be evaluated."""
        ...

    def add(self, sample: Sample, prediction: Mapping[str, Any], *, finite: bool) -> SamplePrediction:
        """Add one sample; `finite` tells whether all values of its outputs are finite.

        Samples arrive in order, the first at position 0.
        """
        ...

    def settled(self, rows: Sequence[SamplePrediction]) -> Sequence[SamplePrediction]:
        """Return the rows of all samples, with values that depend on all of them."""
        return rows

    def metrics(self, groups: Sequence[Group], resamples: int, seed: int) -> list[MetricValue]:
        """Return every figure of every group, with intervals from `resamples` draws."""
        ...

    def parts(self) -> dict[str, Any]:
        """Return the fields of `EvaluationReport` that are specific to the method."""
        ...

    def warnings(self) -> list[str]:
        """Return warnings for the user, a sentence each."""
        ...


def row(sample: Sample, **values: Any) -> SamplePrediction:
    """Return the prediction of a sample, with the fields of its item and the given values."""
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
