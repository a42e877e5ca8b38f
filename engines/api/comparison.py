"""Comparison: evaluations on the same samples in, paired differences out. The evaluator runs this entry in a sandboxed
child.

pair the samples → compare each evaluation with the first → figures by class and slice → what got worse → report

Both sides' figures are over the same samples, and the interval of their difference uses the same draws of samples for
both, so the difficulty of samples cancels out. The reference and one other side are in memory at a time, with a few
numbers per sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import ValidationError

from engines.evaluation.bootstrap import RESAMPLES, metric
from engines.evaluation.comparison.classification import ClassificationSide
from engines.evaluation.comparison.detection import DetectionSide
from engines.evaluation.comparison.embedding import EmbeddingSide
from engines.evaluation.comparison.pairing import Evaluation, Pairing, opened, pair, require_alike
from engines.evaluation.comparison.report import ComparedEvaluation, ComparisonReport, Delta
from engines.evaluation.comparison.samples import MOST, Worse, described, exact_test, worse
from engines.evaluation.comparison.side import Floats, Side
from engines.evaluation.groups import Group, groups
from engines.evaluation.report import EvaluationReport, SliceInfo
from engines.failures import EngineFailure, FailureReason, first_line
from engines.sandbox import Reporter

OUT_DIR = "out"
MOST_DELTAS = 5000
"""Most differences in the result, which must fit into a message; the report has all."""

_BY_CLASS = ("precision/", "recall/", "f1/", "ap/")
_PAIRED, _READ, _COMPARED, _WRITING = 0.05, 0.2, 0.9, 0.95


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Compare evaluations, and write `comparison.json` and `comparison.html` to `workdir/out`.

    Args:
        request: `{"evaluations": [{"name", "predictions", "report"}, …], "seed"}`; paths are relative to `workdir`, the
            first evaluation is the reference.
        workdir: Directory to work in.
        report: Receives the progress.

    Returns:
        The fields `deltas`, `regressions`, `agreement` and `samples` of the JSON form of
        `lathe.evaluator.v1.EvaluationComparison`.

    Raises:
        EngineFailure: INVALID_SPEC if the evaluations are not comparable, INVALID_DATA if a file is not valid.
    """
    report.progress(0.0, "pairing the samples")
    entries = request["evaluations"]
    evaluations = [opened(entry["name"], workdir / entry["predictions"]) for entry in entries]
    require_alike(evaluations)
    reports = [_report(entry["name"], workdir / entry["report"]) for entry in entries]
    compared = Comparison(evaluations, reports, pair(evaluations), int(request.get("seed", 0)))
    whole = compared.run(report)
    report.progress(_WRITING, "writing the report")
    outcome = _outcome(whole, workdir / OUT_DIR)
    report.progress(1.0, "done")
    return outcome


class Comparison:
    """Compares the evaluations with the first, one after another.

    Args:
        evaluations: The evaluations, with the same method and classes.
        reports: Their reports.
        pairing: Their shared samples.
        seed: Seed of the draws.
    """

    def __init__(
        self, evaluations: Sequence[Evaluation], reports: Sequence[EvaluationReport], pairing: Pairing, seed: int
    ) -> None:
        self._evaluations = evaluations
        self._reports = reports
        self._pairing = pairing
        self._seed = seed
        self._groups: list[Group] = []
        self._warnings: list[str] = []

    def run(self, report: Reporter) -> ComparisonReport:
        """Return the comparison."""
        report.progress(_PAIRED, f"reading {self._pairing.samples} shared samples")
        reference = self._reference()
        others, deltas, candidates, regressed = [self._described(0, None, None)], [], [], {}
        agreed = np.full(self._pairing.samples, np.inf)
        for place in range(1, len(self._evaluations)):
            done = (place - 1) / (len(self._evaluations) - 1)
            report.progress(_READ + (_COMPARED - _READ) * done, f"comparing evaluation {place + 1}")
            side = self._side(place)
            self._fill(side, place)
            deltas += self._deltas(side, reference, place)
            agreement = side.agreement(reference)
            agreed = np.minimum(agreed, agreement)
            others.append(self._described(place, _mean(agreement), (reference, side)))
            found, count = worse(place, side.losses(reference), side.severity(reference))
            candidates += found
            regressed[self._evaluations[place].name] = count
        return self._whole(others, deltas, candidates, regressed, _mean(agreed))

    def _whole(
        self,
        compared: list[ComparedEvaluation],
        deltas: list[Delta],
        candidates: list[Worse],
        regressed: dict[str, int],
        agreement: float | None,
    ) -> ComparisonReport:
        chosen = sorted(candidates, key=lambda entry: (-entry.loss, -entry.severity, entry.place, entry.position))[
            :MOST
        ]
        pictures = [{sample.number: sample.image_png for sample in report.worst} for report in self._reports]
        main = self._evaluations[0].header.main_metric
        return ComparisonReport(
            method=self._evaluations[0].header.method,
            main_metric=main if any(entry.delta.name == main for entry in deltas) else "",
            samples=self._pairing.samples,
            evaluations=tuple(compared),
            slices=tuple(SliceInfo(name=part.name, samples=len(part.members)) for part in self._groups[1:]),
            deltas=tuple(deltas),
            agreement=agreement,
            regressed=regressed,
            regressions=described(chosen, self._evaluations, self._pairing, pictures),
            warnings=(*self._left_out(), *self._warnings),
            seed=self._seed,
            resamples=RESAMPLES,
        )

    def _reference(self) -> Side:
        """Return the reference's side, after finding the slices of its samples."""
        asked = set.intersection(*(set(entry.header.slices) for entry in self._evaluations))
        attributes = [Sliced({})] * self._pairing.samples
        for position, values in self._pairing.attributes(self._evaluations) if asked else ():
            attributes[position] = Sliced({name: values[name] for name in asked & values.keys()})
        known = {name for entry in attributes for name in entry.attributes}
        self._groups, self._warnings = groups(attributes, sorted(asked & known))
        side = self._side(0)
        self._fill(side, 0)
        return side

    def _side(self, place: int) -> Side:
        header, kind, samples = self._evaluations[0].header, self._evaluations[0].kind, self._pairing.samples
        if kind == "classification":
            return cast(Side, ClassificationSide(samples, header.classes))
        if kind == "detection":
            asked = [set(entry.header.iou_thresholds) for entry in self._evaluations]
            names = next(iter(header.classes.values()), ())
            return cast(Side, DetectionSide(samples, names, sorted(set.intersection(*asked)), self._groups))
        if kind == "embedding":
            figures = self._reports[place].embedding
            return cast(Side, EmbeddingSide(samples, len(figures.retrieval_keys) if figures else 0))
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"Evaluations with the method {header.method} have no figures to compare.",
            suggested_fix="Evaluate with a method that has figures: classification, detection, yolo or embedding.",
        )

    def _fill(self, side: Side, place: int) -> None:
        for position, sample in self._pairing.rows(self._evaluations, place):
            side.take(position, sample)

    def _deltas(self, side: Side, reference: Side, place: int) -> list[Delta]:
        found = []
        for group in self._groups:
            for entry in side.differences(reference, group, RESAMPLES, self._seed):
                drawn = entry.drawn_after - entry.drawn_before
                delta = metric(entry.name, entry.after - entry.before, drawn, group.name)
                if delta is not None:
                    name = self._evaluations[place].name
                    found.append(Delta(task=name, delta=delta, reference=entry.before, value=entry.after))
        return found

    def _described(self, place: int, agreement: float | None, sides: tuple[Side, Side] | None) -> ComparedEvaluation:
        return ComparedEvaluation(
            name=self._evaluations[place].name,
            package=self._reports[place].package,
            samples=len(self._pairing.positions[place]),
            times=self._reports[place].times,
            agreement=agreement,
            test=exact_test(sides[0].correct(), sides[1].correct()) if sides else None,
        )

    def _left_out(self) -> list[str]:
        return [
            f"{len(positions) - self._pairing.samples:,} of {len(positions):,} samples of '{entry.name}' were left "
            "out, because not all evaluations have them."
            for entry, positions in zip(self._evaluations, self._pairing.positions, strict=True)
            if len(positions) > self._pairing.samples
        ]


@dataclass(frozen=True)
class Sliced:
    """The attributes of a sample that it is sliced by."""

    attributes: Mapping[str, str]


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _report(name: str, path: Path) -> EvaluationReport:
    try:
        return EvaluationReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        message = f"The report of '{name}' is not the report of an evaluation: {first_line(error)}."
        raise EngineFailure(FailureReason.INVALID_DATA, message) from error


def _outcome(whole: ComparisonReport, folder: Path) -> dict[str, Any]:
    from engines.reports.comparison_page import comparison_html

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(whole.to_json(), encoding="utf-8")
    (folder / "comparison.html").write_text(comparison_html(whole), encoding="utf-8")
    # If not everything fits, figures over all data and all classes come first.
    order = sorted(whole.deltas, key=lambda entry: (entry.delta.name.startswith(_BY_CLASS), bool(entry.delta.slice)))
    kept = whole.deltas if len(order) <= MOST_DELTAS else order[:MOST_DELTAS]
    outcome: dict[str, Any] = {
        "deltas": [{"task": entry.task, "delta": entry.delta.model_dump()} for entry in kept],
        "regressions": [{"sample": row.sample, "task": row.task, "loss": row.loss} for row in whole.regressions],
        "samples": whole.samples,
    }
    return outcome if whole.agreement is None else outcome | {"agreement": whole.agreement}
