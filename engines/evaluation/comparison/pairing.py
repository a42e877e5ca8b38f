"""Pairs the samples of several evaluations, and checks that the evaluations are comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.predictions import PredictionsHeader, SamplePrediction, read_header, read_predictions
from engines.failures import EngineFailure, FailureReason

_KEY_COLUMNS = ["path", "sha256", "row"]
_KINDS = {"multi_classification": "classification", "yolo": "detection", "heads": "detection"}
_SHOWN = 5

Key = tuple[str, str, int, int]


@dataclass(frozen=True)
class Evaluation:
    """The predictions of one evaluation: its name, the file and the file's header."""

    name: str
    path: Path
    header: PredictionsHeader

    @property
    def kind(self) -> str:
        """The kind of its predictions: `classification`, `detection`, `embedding` or `raw`."""
        return _KINDS.get(self.header.method, self.header.method)


@dataclass(frozen=True)
class Pairing:
    """The shared samples, in the reference's order.

    Attributes:
        samples: Number of shared samples.
        positions: For each evaluation and each of its rows, the position of the shared sample; -1 if not shared.
    """

    samples: int
    positions: tuple[NDArray[np.int64], ...]

    def rows(
        self, evaluations: Sequence[Evaluation], place: int, wanted: Sequence[int] | None = None
    ) -> Iterator[tuple[int, SamplePrediction]]:
        """Yield the shared samples of an evaluation with their positions, in the order of its file.

        Args:
            evaluations: The evaluations.
            place: Index of the evaluation whose samples are read.
            wanted: Positions of the samples to read; all if None.
        """
        positions = self.positions[place]
        chosen = np.flatnonzero(positions >= 0 if wanted is None else np.isin(positions, wanted)).tolist()
        for row, sample in zip(chosen, read_predictions(evaluations[place].path, chosen), strict=True):
            yield int(positions[row]), sample

    def attributes(self, evaluations: Sequence[Evaluation]) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the attributes of the shared samples in the reference, with their positions."""
        for position, (values,) in zip(self.positions[0], _columns(evaluations[0].path, ["attributes"]), strict=True):
            if position >= 0:
                yield int(position), dict(values)


def opened(name: str, path: Path) -> Evaluation:
    """Return an evaluation. Raises EngineFailure INVALID_DATA if its file is not a `predictions.parquet`."""
    return Evaluation(name, path, read_header(path))


def require_alike(evaluations: Sequence[Evaluation]) -> None:
    """Reject evaluations that are not comparable.

    Raises:
        EngineFailure: INVALID_SPEC if there are fewer than two, or naming how their methods or classes differ.
    """
    if len(evaluations) < 2:
        raise EngineFailure(FailureReason.INVALID_SPEC, "A comparison needs two evaluations or more.")
    first = evaluations[0]
    for other in evaluations[1:]:
        if other.kind != first.kind:
            raise _refusal(
                f"'{first.name}' was evaluated with the method {first.header.method}, but '{other.name}' with "
                f"{other.header.method}, so their figures are not comparable.",
                "Evaluate both with the same method.",
            )
        told = _class_difference(first, other)
        if told:
            raise _refusal(told, "Compare evaluations of models with the same classes, in the same order.")


def _class_difference(first: Evaluation, other: Evaluation) -> str:
    mine, theirs = first.header.classes, other.header.classes
    if set(mine) != set(theirs) and len(mine) == len(theirs) == 1 and first.kind == "detection":
        theirs = dict(zip(mine, theirs.values(), strict=True))  # the name of a detector's only task does not matter
    if set(mine) != set(theirs):
        return f"'{first.name}' has the tasks {', '.join(mine)}, but '{other.name}' has {', '.join(theirs)}."
    for task, names in mine.items():
        found = theirs[task]
        if names == found:
            continue
        missing = [name for name in names if name not in found]
        added = [name for name in found if name not in names]
        if missing or added:
            parts = [f"lacks {_listed(missing)}"] if missing else []
            parts += [f"has the additional {_listed(added)}"] if added else []
            return (
                f"The classes of the task '{task}' differ: '{other.name}' {' and '.join(parts)}, unlike '{first.name}'."
            )
        place = next(number for number, pair in enumerate(zip(names, found, strict=False)) if pair[0] != pair[1])
        return (
            f"The classes of the task '{task}' are in a different order: number {place} is '{names[place]}' in "
            f"'{first.name}' and '{found[place]}' in '{other.name}'."
        )
    return ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more


def _refusal(message: str, fix: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message, suggested_fix=fix)


def pair(evaluations: Sequence[Evaluation]) -> Pairing:
    """Find the samples that all evaluations share, by path, content and row.

    A sample that occurs several times in a dataset is paired in the order of its occurrences.

    Raises:
        EngineFailure: INVALID_SPEC if there are none.
    """
    places = {key: position for position, key in enumerate(_keys(evaluations[0].path))}
    found = [np.array([places.get(key, -1) for key in _keys(entry.path)], np.int64) for entry in evaluations]
    present = np.zeros(len(places), np.int64)
    for positions in found:
        present[positions[positions >= 0]] += 1
    shared = present == len(evaluations)
    if not shared.any():
        counts = "; ".join(
            f"'{entry.name}' has {len(positions)}{_example(entry.path)}"
            for entry, positions in zip(evaluations, found, strict=True)
        )
        raise _refusal(
            f"The evaluations share no samples: {counts}.",
            "Evaluate them on the same dataset; if you limit the samples, use the same number and seed.",
        )
    renumbered = np.where(shared, np.cumsum(shared) - 1, -1)
    return Pairing(int(shared.sum()), tuple(np.where(rows >= 0, renumbered[rows], -1) for rows in found))


def _example(path: Path) -> str:
    first = next(_keys(path), None)
    return f", such as '{first[0]}'" if first else ""


def _keys(path: Path) -> Iterator[Key]:
    seen: Counter[tuple[str, str, int]] = Counter()
    for key in _columns(path, _KEY_COLUMNS):
        seen[key] += 1
        yield (*key, seen[key])


def _columns(path: Path, names: list[str]) -> Iterator[tuple[Any, ...]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(str(path)) as file:
        for batch in file.iter_batches(columns=names):
            yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)
