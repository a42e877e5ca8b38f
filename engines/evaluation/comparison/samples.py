"""Finds the samples that got worse, and describes both sides' answers on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engines.evaluation.comparison.pairing import Evaluation, Pairing
from engines.evaluation.comparison.report import ExactTest, Regression
from engines.evaluation.comparison.side import Floats
from engines.evaluation.predictions import SamplePrediction
from engines.evaluation.worst import task_answer

MOST = 100
_MOST_PICTURES = 24
_MOST_BOXES = 12
_LEAST_LOSS = 1e-9


@dataclass(frozen=True)
class Worse:
    """A shared sample that got worse: the evaluation's index, the sample's position, and by how much."""

    place: int
    position: int
    loss: float
    severity: float


def worse(place: int, losses: Floats, severity: Floats) -> tuple[list[Worse], int]:
    """Return the samples that got worse, the worst first and at most `MOST`, and their total number."""
    count = int((losses > _LEAST_LOSS).sum())
    order = np.lexsort((-np.nan_to_num(severity), -np.nan_to_num(losses, nan=-np.inf)))[: min(count, MOST)]
    return [Worse(place, int(at), float(losses[at]), float(np.nan_to_num(severity[at]))) for at in order], count


def exact_test(before: Floats, after: Floats) -> ExactTest | None:
    """Return McNemar's exact test of right and wrong samples; None if the truth of no sample is known.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12
    (1947); exact as a two-sided binomial test of the samples on which the sides differ.
    """
    if not (np.isfinite(before) & np.isfinite(after)).any():
        return None
    lost, won = int(((before == 1) & (after == 0)).sum()), int(((before == 0) & (after == 1)).sum())
    trials, tail, ways = lost + won, 0, 1
    for number in range(min(lost, won) + 1):
        tail += ways
        ways = ways * (trials - number) // (number + 1)
    return ExactTest(lost=lost, won=won, p_value=min(1.0, 2 * tail / 2**trials))


def described(
    chosen: Sequence[Worse],
    evaluations: Sequence[Evaluation],
    pairing: Pairing,
    pictures: Sequence[Mapping[int, str]],
) -> tuple[Regression, ...]:
    """Return both sides' answers on the samples.

    Args:
        chosen: The samples, the worst first.
        evaluations: All evaluations, the reference first.
        pairing: Their shared samples.
        pictures: For each evaluation, the thumbnails in its report by the sample's number.
    """
    wanted: dict[int, set[int]] = {0: {entry.position for entry in chosen}}
    for entry in chosen:
        wanted.setdefault(entry.place, set()).add(entry.position)
    rows = {
        place: dict(pairing.rows(evaluations, place, sorted(positions)))
        for place, positions in wanted.items()
        if positions
    }
    found: list[Regression] = []
    for entry in chosen:
        before, after = rows[0][entry.position], rows[entry.place][entry.position]
        picture = pictures[entry.place].get(after.number) or pictures[0].get(before.number, "")
        fresh = len(found) < _MOST_PICTURES
        found.append(_regression(entry, evaluations, before, after, picture if fresh else ""))
    return tuple(found)


def _regression(
    entry: Worse, evaluations: Sequence[Evaluation], before: SamplePrediction, after: SamplePrediction, picture: str
) -> Regression:
    classes = evaluations[0].header.classes
    names = next(iter(classes.values()), ())
    tensor = not before.width
    answers = [
        tuple(task_answer(given, classes[given.task]) for given in row.tasks if given.task in classes)
        for row in (before, after)
    ]
    boxes = [
        tuple(f"{names[box.label]} {box.score:.2f}" for box in row.detections[:_MOST_BOXES]) for row in (before, after)
    ]
    return Regression(
        sample=f"{before.path}[{before.row}]" if tensor else before.path,
        task=evaluations[entry.place].name,
        loss=entry.loss,
        attributes=dict(before.attributes),
        image_png=picture,
        before=answers[0],
        after=answers[1],
        truths=tuple(names[box.label] for box in before.truths[:_MOST_BOXES]),
        boxes_before=boxes[0],
        boxes_after=boxes[1],
    )
