"""Predictions and reports of invented evaluations, written as the engine writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engines.api.comparison import run
from engines.evaluation.comparison.report import ComparisonReport
from engines.evaluation.predictions import (
    FILE_NAME,
    DetectedBox,
    PredictionsHeader,
    PredictionsWriter,
    SamplePrediction,
    TaskPrediction,
    TrueBox,
)
from engines.evaluation.report import EvaluationReport
from engines.sandbox import Reporter
from tests.unit.reports import examples

CLASSES = ("cat", "dog", "fox", "owl", "pig", "seal", "wolf")


@dataclass
class Evaluations:
    """A work directory with evaluations in it, in the order written; the first is the reference."""

    folder: Path
    entries: list[dict[str, str]] = field(default_factory=list)

    def add(
        self, header: PredictionsHeader, rows: Sequence[SamplePrediction], report: EvaluationReport | None = None
    ) -> str:
        place = len(self.entries)
        (self.folder / str(place)).mkdir()
        with PredictionsWriter(self.folder / str(place) / FILE_NAME, header) as writer:
            writer.add(rows)
        kinds = {"yolo": examples.detection, "embedding": examples.embedding, "raw": examples.raw}
        stored = report or kinds.get(header.method, examples.classification)()
        (self.folder / str(place) / "report.json").write_text(stored.to_json())
        name = f"evaluationTasks/{place}"
        paths = {"predictions": f"{place}/{FILE_NAME}", "report": f"{place}/report.json"}
        self.entries.append({"name": name, **paths})
        return name

    def compare(self, seed: int = 3) -> dict[str, Any]:
        return run({"evaluations": self.entries, "seed": seed}, self.folder, Reporter(lambda _: None))


def classes_header(**fields: Any) -> PredictionsHeader:
    values = {"method": "classification", "classes": {"animal": CLASSES}, "slices": ("light",), "main_metric": "top1"}
    return PredictionsHeader(**(values | fields))


def sample(number: int, **fields: Any) -> SamplePrediction:
    values: dict[str, Any] = {
        "number": number,
        "path": f"images/{number:05d}.jpg",
        "sha256": f"{number:064x}",
        "row": 0,
        "width": 64,
        "height": 48,
        "attributes": {"light": "night" if number % 3 == 0 else "day"},
    }
    return SamplePrediction(**(values | fields))


def classified(number: int, truth: int, predicted: int, rank: int = 3, task: str = "animal") -> SamplePrediction:
    """A sample with one answer; `rank` is that of the true class if it is not the first."""
    correct = truth == predicted
    loss = 0.1 if correct else 1.0 + rank
    answer = TaskPrediction(task, truth, predicted, 0.9, 0.9 if correct else 0.05, 0 if correct else rank, loss)
    known = truth >= 0
    return sample(number, tasks=(answer,), loss=loss if known else None, correct=correct if known else None)


def random_classified(count: int, accuracy: float, seed: int, classes: int = len(CLASSES)) -> list[SamplePrediction]:
    """Samples whose truth is the same for every seed, right about as often as asked for."""
    truths = np.random.default_rng(0).integers(0, classes, count)
    random = np.random.default_rng(seed)
    wrong = random.random(count) > accuracy
    others = (truths + random.integers(1, classes, count)) % classes
    ranks = random.integers(1, classes, count)
    predicted = np.where(wrong, others, truths)
    return [classified(n, int(truths[n]), int(predicted[n]), int(ranks[n])) for n in range(count)]


def boxes_header(**fields: Any) -> PredictionsHeader:
    values = {"method": "yolo", "classes": {"detection": ("car", "bus")}, "slices": ("light",), "main_metric": "map"}
    return PredictionsHeader(**(values | fields))


def truth(label: int, x: float, y: float, side: float = 40.0) -> TrueBox:
    return TrueBox(label, x, y, side, side, side * side)


def hit(label: int, x: float, y: float, score: float = 0.9, side: float = 40.0) -> DetectedBox:
    return DetectedBox(label, score, x, y, side, side)


def detected(
    number: int, truths: Sequence[TrueBox], found: Sequence[DetectedBox], loss: float = 0.0
) -> SamplePrediction:
    return sample(number, truths=tuple(truths), detections=tuple(found), loss=loss, correct=loss < 0.5)


def delta(found: dict[str, Any], name: str, part: str = "", task: str = "evaluationTasks/1") -> dict[str, float]:
    deltas = [entry["delta"] for entry in found["deltas"] if entry["task"] == task]
    return next(entry for entry in deltas if (entry["name"], entry["slice"]) == (name, part))


def stored(evaluations: Evaluations) -> ComparisonReport:
    return ComparisonReport.model_validate_json((evaluations.folder / "out" / "comparison.json").read_text())
