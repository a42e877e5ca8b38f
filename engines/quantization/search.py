"""Quantizes one component: candidates, gate, ladder, choice. Each step says in the log what it found."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.profile import ProfileReport
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

log = logging.getLogger(__name__)


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

        The second candidates are tried where none of the first holds. The ladder is climbed where nothing holds
        then, or where only what is no faster than the source does and something faster could be made to hold.
        """
        self._try(first)
        if not any(form.holds for form in self._forms):
            self._try(second)
        if not self._forms:
            return None
        self.workshop.say("measuring latency")
        self.report = self.stopwatch.compare(self._forms, FINAL_SECONDS)
        for line in self.report.lines():
            log.info("%s", line)
        best = fastest(self.report, [form for form in self._forms if form.holds])
        climber = self._climber(best)
        if climber is None:
            return best or max(self._forms, key=lambda form: form.score)
        top = self._climb(climber)
        contenders = [form for form in (best, top.top) if form is not None]
        if not contenders:
            return max([*self._forms, *top.rungs], key=lambda form: form.score)
        if len(contenders) == 1:
            return contenders[0]
        return fastest(self.stopwatch.compare(contenders, FINAL_SECONDS), contenders)

    @property
    def _forms(self) -> list[JudgedForm]:
        return [trial.form for trial in self.trials if trial.form is not None]

    def _try(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            self.trials.append(self.workshop.try_out(candidate))

    def _climber(self, best: JudgedForm | None) -> Trial | None:
        """Return what to climb with: of what is faster than the source the best; the best of all where nothing is."""
        assert self.report is not None
        made = [trial for trial in self.trials if trial.form is not None and not trial.form.holds]
        fast = [trial for trial in made if trial.form and faster_than_source(self.report, trial.form)]
        if best is not None and (not fast or faster_than_source(self.report, best)):
            return None
        return max(fast or made, key=lambda trial: trial.form.score if trial.form else -1.0, default=None)

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
