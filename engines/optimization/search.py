"""Searches for the best form: each candidate is made, held to the truth, screened; the rest is a tournament.

    baseline ─▶ for each spec: make → open → parity → screen against the best → accuracy ─▶ rungs ─▶ final ─▶ the one

The budget bounds all of it but what an answer needs: the baseline, and a final of a few rounds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.optimization.entry import Entry
from engines.optimization.final import FINAL_SECONDS, Final, Outcome
from engines.optimization.form import FormSpec
from engines.optimization.judging import STRICT, Judge, Thresholds, Truth
from engines.optimization.memory import available_memory
from engines.optimization.pareto import mark
from engines.optimization.record import Conditions, Record
from engines.optimization.standing import FINALISTS, Standing
from engines.optimization.tournament import Contender, Tournament, timed_feed
from engines.optimization.trying import TIMED, Maker, Workbench
from engines.preparation import Prepared
from engines.profile import ProfileReport
from engines.samples import Samples

log = logging.getLogger(__name__)

Progress = Callable[[float, str], None]

MAKING_SHARE = 0.7
"""Part of the budget in which forms are made and screened; the rest is for the rungs and the final."""
MOST_OF_THE_REST = 0.5
"""Part of the time that is left for making that one form may take."""
LEAST_MAKING_SECONDS = 5.0
FINAL_SHARE = 0.2
RUNG_SECONDS = 3.0
OPENED_SHARE = 0.5
"""Part of the memory that the processes of all forms may take together."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        entries: Every candidate, in the order of the specs; the baseline is not among them.
        baseline: The source form.
        recommended: The one: the baseline itself where there is no gain. Its `made` is what a package is made of.
        no_gain: Whether no form beats the source beyond noise.
        no_gain_reason: Why, in a sentence.
        profile: The baseline, the best form, and the baseline against itself, of the final.
        record: Earlier measurements and this search's.
    """

    entries: list[Entry]
    baseline: Entry
    recommended: Entry
    no_gain: bool
    no_gain_reason: str
    profile: ProfileReport
    record: Record


def search(
    specs: Sequence[FormSpec],
    maker: Maker,
    source: Prepared,
    feeds: Samples,
    baseline: FormSpec,
    *,
    workdir: Path,
    threads: int,
    objective: str = "LATENCY",
    budget_seconds: float = 600.0,
    thresholds: Thresholds = STRICT,
    classifier: bool = False,
    judge: Judge | None = None,
    judged_on: str = "",
    calibrated_on: str = "",
    earlier: Record | None = None,
    task: str = "",
    memory_bytes: int = 0,
    progress: Progress = lambda fraction, message: None,
    seed: int = 0,
) -> SearchResult:
    """Return the best form of a component, and what was found out about all.

    Args:
        specs: The candidates, the most promising first.
        maker: Builds them.
        source: The component: its original says what is right.
        feeds: What forms are compared on, and timed.
        baseline: The source form.
        workdir: Where processes exchange files.
        threads: Threads of every form.
        objective: `LATENCY`, `THROUGHPUT` or `SIZE`.
        budget_seconds: Time for all.
        thresholds: What forms have to keep.
        classifier: Whether outputs are scores of classes.
        judge: Returns the metric of a function that computes outputs from inputs; None where there is no data.
        judged_on: What it judges on, for the record: a digest of the data.
        calibrated_on: What quantized forms are calibrated on, and how long: a digest.
        earlier: What earlier searches measured.
        task: Name of this work, under which its measurements are recorded.
        memory_bytes: Most memory of the work; what the machine has to spare where 0.
        progress: Told how far it is.
        seed: Seed of all that is drawn.

    Raises:
        EngineFailure: The source itself, or the baseline, does not run. Never for a candidate, nor for the budget.
    """
    began = time.monotonic()
    index = timed_feed(feeds, source.signature.inputs, largest_batch=objective == "THROUGHPUT")
    truth = Truth(source.source, feeds, thresholds, classifier, judge)
    bench = Workbench(maker, truth, threads, workdir, index, int(memory_bytes * OPENED_SHARE))
    settings = {
        "baseline": baseline.to_dict(),
        "objective": objective,
        "threads": threads,
        "feed": index,
        "error": thresholds.error,
        "judged_on": judged_on,
        "max_degradation": thresholds.max_degradation,
    }
    batch = max((len(array) for array in feeds.feeds[index].values() if array.ndim), default=1)
    held = _Search(
        bench,
        Tournament(TIMED, batch, load=objective == "THROUGHPUT", seed=seed),
        Conditions.of(source.ready, feeds, settings, calibrated_on),
        earlier or Record(),
        progress,
        by_size=objective == "SIZE",
        budget=budget_seconds,
        began=began,
        memory_bytes=int((memory_bytes or available_memory()) * OPENED_SHARE),
        task=task,
    )
    return held.run([spec for spec in dict.fromkeys(specs) if spec != baseline], baseline)


@dataclass
class _Search:
    """A search that is under way; the arguments of `search` say what its values are."""

    bench: Workbench
    tournament: Tournament
    conditions: Conditions
    record: Record
    progress: Progress
    by_size: bool
    budget: float
    began: float
    memory_bytes: int
    task: str

    def run(self, specs: Sequence[FormSpec], baseline: FormSpec) -> SearchResult:
        self.progress(0.0, f"measuring the source form, {baseline.name}")
        standing = Standing(self.tournament, self._baseline(baseline), self.by_size, self.memory_bytes)
        try:
            entries = self._try_all(specs, standing)
            self._rungs(standing)
            self.progress(0.9, "the final: the best forms against the source")
            outcome = Final(standing, self.bench).hold(self._left(), self.began + self.budget)
        finally:
            standing.close()
        return self._result(entries, standing.baseline.entry, outcome)

    def _baseline(self, spec: FormSpec) -> Contender:
        """Open the source form; its parity is reported, and is no condition: it is the source.

        Raises:
            EngineFailure: It cannot be made or run.
        """
        entry = Entry(spec, made=self.bench.maker.make(spec))
        assert entry.made is not None  # it was made just now
        entry.size_bytes = entry.made.form.size_bytes
        contender = self.bench.open(entry, bounded=False)
        try:
            if entry.failure is not None:
                log.warning("%s", entry.failure.message)
                entry.failure = None
                contender.call_seconds = self.bench.call_seconds(contender.runner)
            if self.bench.judge(contender):
                self.bench.truth.source_accuracy = entry.accuracy
            elif entry.failure is not None:
                raise entry.failure
        except BaseException:
            contender.runner.close()
            raise
        return contender

    def _try_all(self, specs: Sequence[FormSpec], standing: Standing) -> list[Entry]:
        known = {spec: entry for spec in specs if (entry := self.record.find(self.conditions.key(spec)))}
        again = self._again(list(known.values()))
        entries = []
        for position, spec in enumerate(specs):
            if spec in known and spec not in again:
                entries.append(known[spec])
                continue
            entry = Entry(spec)
            entries.append(entry)
            left = MAKING_SHARE * self.budget - (time.monotonic() - self.began)
            if left <= 0:
                entry.note = f"not tried: the budget of {self.budget:g} s was spent"
                continue
            self.progress(0.05 + 0.75 * position / len(specs), f"trying {spec.name}")
            contender = self.bench.attempt(entry, max(MOST_OF_THE_REST * left, min(left, LEAST_MAKING_SECONDS)))
            if contender is not None:
                standing.enter(contender, self.bench.judge)
        return entries

    def _again(self, known: Sequence[Entry]) -> set[FormSpec]:
        """Return what is built anew though it was measured: the best of an earlier search, and the best default."""
        ranked = sorted((entry for entry in known if entry.holds), key=self._earlier_merit, reverse=True)
        defaults = [entry for entry in ranked if entry.spec.is_default]
        return {entry.spec for entry in (*ranked[:1], *defaults[:1])}

    def _earlier_merit(self, entry: Entry) -> float:
        assert entry.latency is not None  # it was measured
        return -float(entry.size_bytes) if self.by_size else entry.latency.speedup

    def _rungs(self, standing: Standing) -> None:
        for number in range(len(standing.members)):
            if len(standing.members) <= FINALISTS:
                return
            self.progress(0.8 + 0.02 * number, f"{len(standing.members)} forms are left")
            spare = self._left() - min(FINAL_SECONDS, FINAL_SHARE * self.budget)
            if spare <= 0:
                return
            standing.rung(number, min(spare / 2, RUNG_SECONDS * (number + 1)))

    def _left(self) -> float:
        return max(0.0, self.budget - (time.monotonic() - self.began))

    def _result(self, entries: list[Entry], baseline: Entry, outcome: Outcome) -> SearchResult:
        chosen = outcome.chosen.entry if outcome.chosen and outcome.gain else baseline
        chosen.recommended = True
        mark([baseline, *entries])
        for entry in entries:
            self.record.put(self.conditions.key(entry.spec), entry, self.task)
        return SearchResult(entries, baseline, chosen, not outcome.gain, outcome.reason, outcome.profile, self.record)
