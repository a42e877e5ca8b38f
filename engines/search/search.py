"""Searches for the best form: each candidate is made, compared with the source and timed; the rest is a tournament.

    baseline ─▶ for each candidate: make → open → parity → time against the best → accuracy
             ─▶ repair of fast quantized forms that miss the tolerance ─▶ rungs ─▶ final ─▶ the best form

Quantizations and optimizations are both searches: they differ in their candidates. The budget bounds everything but
what an answer needs: the baseline, and a final of a few rounds.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from engines.formats.preparation import Prepared
from engines.runtimes.form import FormSpec
from engines.search.contenders import FINALISTS, Contenders
from engines.search.entry import Entry, FormContender, mark_pareto
from engines.search.final import FINAL_SECONDS, Final, Outcome
from engines.search.journal import Journal
from engines.search.record import Conditions, Record
from engines.search.repair import Repairs
from engines.search.request import Plan, SearchSettings
from engines.search.trials import Progress, Trials
from engines.search.truth import Truth
from engines.search.workbench import TIMED, FormMaker, Workbench
from engines.timing.memory import available_memory
from engines.timing.paired import ProfileReport
from engines.timing.tournament import Tournament, timed_feed

log = logging.getLogger(__name__)

FINAL_SHARE = 0.2
RUNG_SECONDS = 3.0
OPENED_SHARE = 0.5
"""Part of the memory that the processes of all forms may take in total."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        entries: Every candidate: first the rejected baselines, then the others in the order in which they were tried;
            the chosen baseline is not among them.
        baseline: The source form.
        recommended: The form to take: the baseline itself if there is no gain. Its `made` is what a package is made of.
        best: The best form whether it is a gain or not; None if there is none. It misses the tolerance only if the
            search had to choose a form and every form misses it.
        no_gain: Whether no form beats the source beyond noise.
        no_gain_reason: Why, in a sentence.
        profile: The baseline, the best form, and the baseline against itself, of the final.
        record: Earlier measurements and this search's.
    """

    entries: list[Entry]
    baseline: Entry
    recommended: Entry
    best: Entry | None
    no_gain: bool
    no_gain_reason: str
    profile: ProfileReport
    record: Record


def search(
    plan: Plan,
    maker: FormMaker,
    source: Prepared,
    truth: Truth,
    settings: SearchSettings,
    *,
    earlier: Record | None = None,
    progress: Progress = lambda fraction, message: None,
    journal: Journal | None = None,
) -> SearchResult:
    """Return the best form of a component, and what was found out about all.

    Args:
        plan: The candidates.
        maker: Builds them.
        source: The component.
        truth: The outputs of the original, and the limits of forms.
        settings: The settings.
        earlier: The measurements of earlier searches.
        progress: Takes the fraction that is done, and what is being done.
        journal: The state that earlier processes of this search left.

    Raises:
        EngineFailure: The source itself does not run; no baseline can be made, or none computes what the source
            computes. Never for a candidate or the budget.
    """
    journal = journal or Journal()
    began, feeds, by_load = journal.begin(), truth.samples, settings.objective == "THROUGHPUT"
    index = timed_feed(feeds, source.signature.inputs, largest_batch=by_load)
    counted = [spec for spec in source.signature.inputs if spec.has_batch]
    batch = max((feeds.feeds[index][spec.name].shape[spec.batch_axis] for spec in counted), default=1)
    candidate_bytes = int(settings.memory_bytes * OPENED_SHARE)
    bench = Workbench(maker, truth, settings.threads, settings.workdir, index, candidate_bytes)
    tournament = Tournament(TIMED, batch, load=by_load, seed=settings.seed)
    running = _Search(plan, bench, tournament, source.ready, settings, journal, earlier or Record(), progress, began)
    return running.run()


@dataclass
class _Search:
    """A search that is under way; the arguments of `search` say what its values are."""

    plan: Plan
    bench: Workbench
    tournament: Tournament
    graph: Path
    settings: SearchSettings
    journal: Journal
    record: Record
    progress: Progress
    began: float

    def run(self) -> SearchResult:
        settings = self.settings
        self.progress(0.0, f"measuring the source form, {self.plan.baselines[0].name}")
        source, rejected = self.bench.source_form(self.plan.baselines)
        memory_bytes = int((settings.memory_bytes or available_memory()) * OPENED_SHARE)
        contenders = Contenders(
            *(self.tournament, source, settings.objective == "SIZE", memory_bytes, self.bench.source_process)
        )
        try:
            conditions = self._conditions(source.entry.spec)
            trials = Trials(
                *(self.bench, contenders, self.journal, self.record, conditions, self.progress),
                *(settings.budget_seconds, self.began),
            )
            self._try(trials, {source.entry.spec, *(entry.spec for entry in rejected)})
            missed = self._nearest(trials) if settings.must_choose and not contenders.members else None
            contenders.leader = next(iter(contenders.ranked), None)
            self._rungs(contenders)
            self.progress(0.9, "the final: the best forms against the source")
            final = Final(contenders, self.bench, settings.final_seconds)
            outcome = final.hold(self.began + settings.budget_seconds)
            if missed is not None:
                missed.entry.failure = missed.objection
        finally:
            contenders.close()
        entries = [*rejected, *trials.entries]
        for entry in entries:
            self.record.put(conditions.key(entry.spec), entry)
            entry.compare(outcome.profile.forms[0].median_ms)
        return self._result(entries, source.entry, outcome)

    def _try(self, trials: Trials, tried: set[FormSpec]) -> None:
        specs = [spec for spec in dict.fromkeys(self.plan.specs) if spec not in tried]
        waiting = trials.run(specs, self.plan.otherwise)
        if self.plan.nodes is not None:
            Repairs(trials, self.plan.nodes).run()
        for spec in waiting:
            if (chosen := trials.chosen(spec)) is not None:
                trials.attempt(chosen)

    def _nearest(self, trials: Trials) -> FormContender | None:
        """Open the form that misses the tolerance by least again and let it in; None if no form was made.

        A form that an earlier process of this search made is made again.
        """
        nearest = max((entry for entry in trials.entries if entry.misses), key=self.bench.truth.score, default=None)
        if nearest is None:
            return None
        objection, nearest.failure = nearest.failure, None
        with self.journal.risking(nearest.spec.name):
            nearest.made = nearest.made or self.bench.maker.make(nearest.spec)
        contender = self.bench.open(nearest)
        contender.objection = objection
        trials.contenders.members.append(contender)
        return contender

    def _conditions(self, baseline: FormSpec) -> Conditions:
        asked, thresholds = self.settings, self.bench.truth.thresholds
        settings = {
            "baseline": baseline.to_dict(),
            "objective": asked.objective,
            "threads": asked.threads,
            "feed": self.bench.feed,
            "error": thresholds.error,
            "judged_on": asked.judged_on,
            "max_degradation": thresholds.max_degradation,
        }
        return Conditions.of(self.graph, self.bench.truth.samples, settings, asked.calibrated_on)

    def _rungs(self, contenders: Contenders) -> None:
        final_seconds = self.settings.final_seconds or FINAL_SECONDS
        for number in range(len(contenders.members)):
            if len(contenders.members) <= FINALISTS:
                return
            self.progress(0.85 + 0.01 * number, f"{len(contenders.members)} forms are left")
            budget = self.settings.budget_seconds
            final = self.bench.source_seconds + min(final_seconds, FINAL_SHARE * budget)
            spare = self.began + budget - time.monotonic() - final
            if spare <= 0:
                return
            contenders.rung(number, min(spare / 2, RUNG_SECONDS * (number + 1), final_seconds))

    def _result(self, entries: list[Entry], baseline: Entry, outcome: Outcome) -> SearchResult:
        best = outcome.chosen.entry if outcome.chosen else None
        chosen = best if best and outcome.gain else baseline
        chosen.recommended = True
        mark_pareto([baseline, *entries])
        return SearchResult(
            entries, baseline, chosen, best, not outcome.gain, outcome.reason, outcome.profile, self.record
        )
