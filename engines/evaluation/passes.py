"""Runs a model over the data: once for predictions, and further times for timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from engines.evaluation.collector import Collector
from engines.evaluation.feeder import Batch, Feeder
from engines.evaluation.predictions import PredictionsHeader, PredictionsWriter, SamplePrediction
from engines.evaluation.predictor import Prediction, Predictor
from engines.evaluation.times import Clock
from engines.evaluation.worst import Worst
from engines.failures import EngineFailure, FailureReason
from engines.tensors import Array

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass
class Findings:
    """The results of the passes over the data."""

    collector: Collector
    clock: Clock = field(default_factory=Clock)
    worst: Worst = field(default_factory=Worst)
    not_finite: int = 0


class Passes:
    """Passes over the data: each feeds every batch to a model once.

    Args:
        feeder: Makes the batches.
        run: The model.
        predictor: Turns its outputs into predictions.
        progress: Receives the fraction that is done.
    """

    def __init__(self, feeder: Feeder, run: Run, predictor: Predictor, progress: Callable[[float], None]) -> None:
        self._feeder = feeder
        self._run = run
        self._predictor = predictor
        self._progress = progress

    def first(self) -> Prediction:
        """Return a prediction of the first batch, by an untimed call that warms up the runtime.

        Raises:
            EngineFailure: OUTPUT_MISMATCH if the outputs do not fit the method.
        """
        batch = next(self._feeder.batches())
        return self._predictor.predict(batch, self._run(batch.feed))[0][0]

    def run(self, findings: Findings, loops: int, path: Path, header: PredictionsHeader) -> None:
        """Run over the data `loops` times; the first pass writes its predictions to `path`."""
        with ExitStack() as stack:
            writer = stack.enter_context(PredictionsWriter(path, header))
            kept: list[SamplePrediction] = []

            def take(rows: Sequence[SamplePrediction]) -> None:
                if findings.collector.late:
                    kept.extend(rows)
                    return
                writer.add(rows)
                for entry in rows:
                    findings.worst.add(entry)

            self._pass(findings, 0, loops, take)
            if kept:
                settled = findings.collector.settled(kept)
                writer.add(settled)
                for entry in settled:
                    findings.worst.add(entry)
        for turn in range(1, loops):
            self._pass(findings, turn, loops, None)

    def _pass(
        self, findings: Findings, turn: int, loops: int, take: Callable[[Sequence[SamplePrediction]], None] | None
    ) -> None:
        clock, batches, total = findings.clock, self._feeder.batches(), len(self._feeder.numbers)
        done = 0
        while (batch := clock.preparing(lambda: next(batches, None))) is not None:
            predictions, finite = self._predicted(clock, batch)
            clock.samples += len(batch.samples)
            done += len(batch.samples)
            if take is not None:
                findings.not_finite += finite.count(False)
                triples = zip(batch.samples, predictions, finite, strict=True)
                take([findings.collector.add(sample, found, finite=good) for sample, found, good in triples])
            self._progress((turn + done / total) / loops)

    def _predicted(self, clock: Clock, batch: Batch) -> tuple[list[Prediction], list[bool]]:
        outputs = clock.calling(lambda: self._run(batch.feed))
        return clock.finishing(lambda: self._predictor.predict(batch, outputs))


def refuse_empty(numbers: Sequence[int]) -> None:
    """Reject data without samples.

    Raises:
        EngineFailure: INVALID_DATA.
    """
    if not numbers:
        raise EngineFailure(FailureReason.INVALID_DATA, "The data has no samples to evaluate.")
