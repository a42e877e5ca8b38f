"""Searches for the best form: each candidate is made, held to the truth, screened; the rest is a tournament.

    baseline ─▶ for each spec: make → open → parity → screen against the best → accuracy ─▶ rungs ─▶ final ─▶ the one

The budget bounds all of it but what an answer needs: the baseline, and a final of a few rounds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.formats.preparation import Prepared
from engines.runtimes.form import FormSpec
from engines.search.contenders import FINALISTS, Contenders
from engines.search.entry import Entry
from engines.search.final import FINAL_SECONDS, Final, Outcome
from engines.search.journal import Journal
from engines.search.pareto import mark
from engines.search.record import Conditions, Record
from engines.search.tournament import Tournament, timed_feed
from engines.search.trials import Progress, Trials
from engines.search.truth import Truth
from engines.search.workbench import TIMED, Maker, Workbench
from engines.timing.memory import available_memory
from engines.timing.paired import ProfileReport

log = logging.getLogger(__name__)

FINAL_SHARE = 0.2
RUNG_SECONDS = 3.0
OPENED_SHARE = 0.5
"""Part of the memory that the processes of all forms may take together."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        entries: Every candidate: first what was to stand for the source and does not, then in the order of the specs;
            the baseline is not among them.
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
    truth: Truth,
    baselines: Sequence[FormSpec],
    *,
    workdir: Path,
    threads: int,
    objective: str = "LATENCY",
    budget_seconds: float = 600.0,
    judged_on: str = "",
    calibrated_on: str = "",
    earlier: Record | None = None,
    memory_bytes: int = 0,
    progress: Progress = lambda fraction, message: None,
    seed: int = 0,
    journal: Journal | None = None,
) -> SearchResult:
    """Return the best form of a component, and what was found out about all.

    Args:
        specs: The candidates, the most promising first.
        maker: Builds them.
        source: The component.
        truth: What its original computes, on what forms are compared on and timed; and what they have to keep.
        baselines: The source form; if it cannot be made, or does not compute what the source computes, the next is.
        workdir: Where processes exchange files.
        threads: Threads of every form.
        objective: `LATENCY`, `THROUGHPUT` or `SIZE`.
        budget_seconds: Time for all.
        judged_on: What the truth's judge judges on, for the record: a digest of the data.
        calibrated_on: What quantized forms are calibrated on, and how long: a digest.
        earlier: What earlier searches measured.
        memory_bytes: Most memory of the work; what the machine has to spare where 0.
        progress: Told how far it is.
        seed: Seed of all that is drawn.
        journal: What earlier processes of this search found out; it goes on from there.

    Raises:
        EngineFailure: The source itself does not run; no baseline can be made, or none computes what the source
            computes. Never for a candidate, nor for the budget.
    """
    journal = journal or Journal()
    began, feeds = journal.begin(), truth.samples
    index = timed_feed(feeds, source.signature.inputs, largest_batch=objective == "THROUGHPUT")
    settings = {
        "objective": objective,
        "threads": threads,
        "feed": index,
        "error": truth.thresholds.error,
        "judged_on": judged_on,
        "max_degradation": truth.thresholds.max_degradation,
    }
    counted = [spec for spec in source.signature.inputs if spec.has_batch]
    batch = max((feeds.feeds[index][spec.name].shape[spec.batch_axis] for spec in counted), default=1)
    held = _Search(
        Workbench(maker, truth, threads, workdir, index, int(memory_bytes * OPENED_SHARE)),
        Tournament(TIMED, batch, load=objective == "THROUGHPUT", seed=seed),
        source.ready,
        settings,
        calibrated_on,
        journal,
        earlier or Record(),
        progress,
        by_size=objective == "SIZE",
        budget=budget_seconds,
        began=began,
        memory_bytes=int((memory_bytes or available_memory()) * OPENED_SHARE),
    )
    return held.run(specs, baselines)


@dataclass
class _Search:
    """A search that is under way; the arguments of `search` say what its values are."""

    bench: Workbench
    tournament: Tournament
    graph: Path
    settings: Mapping[str, Any]
    calibrated_on: str
    journal: Journal
    record: Record
    progress: Progress
    by_size: bool
    budget: float
    began: float
    memory_bytes: int

    def run(self, specs: Sequence[FormSpec], baselines: Sequence[FormSpec]) -> SearchResult:
        self.progress(0.0, f"measuring the source form, {baselines[0].name}")
        source, rejected = self.bench.source_form(baselines)
        contenders = Contenders(self.tournament, source, self.by_size, self.memory_bytes, self.bench.source_process)
        try:
            conditions = self._conditions(source.entry.spec)
            trials = Trials(
                *(self.bench, contenders, self.journal, self.record, conditions, self.progress),
                *(self.budget, self.began),
            )
            tried = {source.entry.spec, *(entry.spec for entry in rejected)}
            entries = [*rejected, *trials.run([spec for spec in dict.fromkeys(specs) if spec not in tried])]
            self._rungs(contenders)
            self.progress(0.9, "the final: the best forms against the source")
            outcome = Final(contenders, self.bench).hold(self.began + self.budget)
        finally:
            contenders.close()
        for entry in entries:
            self.record.put(conditions.key(entry.spec), entry)
            entry.compare(outcome.profile.forms[0].median_ms)
        return self._result(entries, source.entry, outcome)

    def _conditions(self, baseline: FormSpec) -> Conditions:
        settings = {"baseline": baseline.to_dict(), **self.settings}
        return Conditions.of(self.graph, self.bench.truth.samples, settings, self.calibrated_on)

    def _rungs(self, contenders: Contenders) -> None:
        for number in range(len(contenders.members)):
            if len(contenders.members) <= FINALISTS:
                return
            self.progress(0.8 + 0.02 * number, f"{len(contenders.members)} forms are left")
            final = self.bench.source_seconds + min(FINAL_SECONDS, FINAL_SHARE * self.budget)
            spare = self.began + self.budget - time.monotonic() - final
            if spare <= 0:
                return
            contenders.rung(number, min(spare / 2, RUNG_SECONDS * (number + 1)))

    def _result(self, entries: list[Entry], baseline: Entry, outcome: Outcome) -> SearchResult:
        chosen = outcome.chosen.entry if outcome.chosen and outcome.gain else baseline
        chosen.recommended = True
        mark([baseline, *entries])
        return SearchResult(entries, baseline, chosen, not outcome.gain, outcome.reason, outcome.profile, self.record)
