"""Quantizes one component: candidates, gate, ladder, choice. Each step says in the log what it found."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.quantization.choosing import (
    FINAL_SECONDS,
    RUNG_SECONDS,
    Stopwatch,
    candidate_fields,
    faster_than_source,
    fastest,
    latency_of,
)
from engines.quantization.gate import JudgedForm
from engines.quantization.ladder import Climb, climb
from engines.quantization.plan import Candidate
from engines.quantization.sensing import node_costs
from engines.quantization.workshop import Trial, Workshop, described
from engines.timing.paired import ProfileReport

log = logging.getLogger(__name__)

SIMILAR = 1.1
"""Errors up to this ratio are alike: of such forms the fastest is climbed with."""


@dataclass
class Search:
    """The search for the best form of one component.

    Attributes:
        workshop: Makes forms.
        stopwatch: Measures them.
        trials: What was tried.
        ladder: Rungs that were climbed, as `lathe.quantizer.v1.AccuracyRung`.
        report: Latencies of the trials.
        climbed: Name of the candidate that the ladder was climbed with.
    """

    workshop: Workshop
    stopwatch: Stopwatch
    trials: list[Trial] = field(default_factory=list)
    ladder: list[dict[str, Any]] = field(default_factory=list)
    report: ProfileReport | None = None
    climbed: str = ""

    def run(self, first: Sequence[Candidate], second: Sequence[Candidate]) -> JudgedForm | None:
        """Return the best form; None where no tool made any.

        Where nothing holds that is faster than the source, the second candidates are tried, and then the ladder is
        climbed with something faster than what holds so far, if there is any.
        """
        best = self._try(first)
        if not self._won(best):
            best = self._try(second)
        if self.report is None:
            return None
        climber = None if self._won(best) else self._climber(best)
        if climber is None:
            return best or max(self._forms, key=lambda form: form.score)
        found = self._climb(climber)
        contenders = [form for form in (best, found.top) if form is not None]
        if not contenders:
            return max([*self._forms, *found.rungs], key=lambda form: form.score)
        if len(contenders) == 1:
            return contenders[0]
        return fastest(self.stopwatch.compare(contenders, FINAL_SECONDS), contenders)

    @property
    def _forms(self) -> list[JudgedForm]:
        return [trial.form for trial in self.trials if trial.form is not None]

    def _try(self, candidates: Sequence[Candidate]) -> JudgedForm | None:
        """Make and measure candidates; return the fastest form of all so far that holds."""
        self.trials += [self.workshop.try_out(candidate) for candidate in candidates]
        if self._forms and (candidates or self.report is None):
            self.workshop.say("measuring latency")
            self.report = self.stopwatch.compare(self._forms, FINAL_SECONDS)
            for line in self.report.lines():
                log.info("%s", line)
        return fastest(self.report, [form for form in self._forms if form.holds]) if self.report else None

    def _won(self, best: JudgedForm | None) -> bool:
        return best is not None and self.report is not None and faster_than_source(self.report, best)

    def _climber(self, best: JudgedForm | None) -> Trial | None:
        """Return what to climb with: of the best by cosine or accuracy among the forms that do not hold, the fastest.

        They must be faster than the one that holds; where none does, those no slower than the source go first.
        """
        made = [trial for trial in self.trials if trial.form is not None and not trial.form.holds]
        speeds = {trial.candidate.name: self._speed(trial.form) for trial in made if trial.form}
        floor = self._speed(best) * self._noise() if best else 1 / self._noise()
        quick = [trial for trial in made if speeds[trial.candidate.name] > floor]
        pool = quick if quick or best else made
        errors = {trial.candidate.name: 1 - trial.form.score for trial in pool if trial.form}
        close = [trial for trial in pool if errors[trial.candidate.name] <= SIMILAR * min(errors.values())]
        return max(close, key=lambda trial: speeds[trial.candidate.name], default=None)

    def _speed(self, form: JudgedForm) -> float:
        latency = latency_of(self.report, form) if self.report else None
        return latency.speedup if latency else 0.0

    def _noise(self) -> float:
        return self.report.noise if self.report else 1.0

    def _climb(self, trial: Trial) -> Climb[JudgedForm]:
        assert trial.form is not None
        self.climbed = trial.candidate.name
        self.workshop.say(f"looking for the nodes that cost most under {self.climbed}")
        costs = node_costs(self.workshop, trial.candidate, trial.form)
        order = [name for name in dict.fromkeys(cost.node for cost in costs) if name not in self.workshop.excluded]
        log.info("%s: climbing over %d nodes, %s first", self.climbed, len(order), ", ".join(order[:3]))
        found = climb(order, lambda kept: self._rung(trial.candidate, kept))
        log.info("%s: %s", self.climbed, described(found.top) if found.top else "no rung of the ladder holds")
        return found

    def _rung(self, candidate: Candidate, kept: Sequence[str]) -> JudgedForm | None:
        name = f"{candidate.name}, {len(kept)} nodes in floating point"
        trial = self.workshop.try_out(candidate, frozenset(kept), name)
        if trial.form is None:
            return None
        latency = latency_of(self.stopwatch.compare([trial.form], RUNG_SECONDS), trial.form)
        rung = {"floating_point_nodes": sorted(kept), "median_ms": latency.median_ms if latency else 0.0}
        self.ladder.append({**rung, "accuracy": trial.form.score})
        return trial.form

    def candidates(self, chosen: JudgedForm) -> list[dict[str, Any]]:
        """Return every candidate as `lathe.quantizer.v1.QuantizationCandidate`."""
        return candidate_fields(self.trials, self.report, chosen, self.climbed)
