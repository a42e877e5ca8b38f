"""Chooses the quantized form of a component: the fastest by a search; when no time means anything, the first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.failures import EngineFailure
from engines.formats.preparation import Prepared
from engines.search.entry import Entry
from engines.search.journal import Journal
from engines.search.request import Plan, SearchSettings
from engines.search.search import search
from engines.search.truth import Truth
from engines.search.workbench import FormMaker, judged_alone
from engines.timing.paired import ProfileReport

log = logging.getLogger(__name__)

FINAL_SECONDS = 3.0
"""Time for the paired measurement that chooses."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Found:
    """The forms that were tried.

    Attributes:
        entries: Every candidate.
        best: The form to take; None if none was made. It misses the tolerance only if every form does.
        profile: The paired measurement of the source and the best form; None if they were not timed.
        no_gain: Whether the best form was timed, and is not faster than the source.
    """

    entries: Sequence[Entry]
    best: Entry | None
    profile: ProfileReport | None
    no_gain: bool


@dataclass(frozen=True)
class Choice:
    """How a form is chosen.

    Attributes:
        maker: Makes the forms.
        prepared: The component.
        truth: The outputs of the source, and the limits of forms.
        threads: Threads of every form.
        workdir: Folder in which processes exchange files.
        seed: Seed of random numbers.
        progress: Takes the fraction that is done, and what is being done.
        journal: The state that earlier processes of this work left.
    """

    maker: FormMaker
    prepared: Prepared
    truth: Truth
    threads: int
    workdir: Path
    seed: int
    progress: Progress
    journal: Journal

    def by_time(self, plan: Plan) -> Found:
        """Return the fastest form that computes what the source computes."""
        settings = SearchSettings(
            *(self.workdir, self.threads),
            budget_seconds=float("inf"),
            final_seconds=FINAL_SECONDS,
            must_choose=True,
            seed=self.seed,
        )
        found = search(
            *(plan, self.maker, self.prepared, self.truth, settings), progress=self.progress, journal=self.journal
        )
        for line in found.profile.lines():
            log.info("%s", line)
        return Found(found.entries, found.best, found.profile, found.no_gain)

    def by_making(self, plan: Plan, missing: str) -> Found:
        """Return the first form that can be made, unverified, for forms that run on their device alone.

        Args:
            plan: The candidates.
            missing: What it takes to verify a form.
        """
        entries, best = self._first(plan, "making")
        if best is not None:
            best.parity = self.truth.unseen(best.spec, missing)
        return Found(entries, best, None, no_gain=False)

    def by_parity(self, plan: Plan) -> Found:
        """Return the first form that computes what the source computes, else the one that misses it by least.

        For forms that run in an emulator: how long they take there says nothing about the device.
        """
        if self.truth.judge is not None:
            baseline = Entry(plan.baselines[0], made=self.maker.make(plan.baselines[0]))
            judged_alone(baseline, self.truth, self.threads, self.workdir)
            self.truth.source_accuracy = baseline.accuracy
        entries, best = self._first(
            plan, "trying", lambda entry: judged_alone(entry, self.truth, self.threads, self.workdir)
        )
        missed = [entry for entry in entries if entry.misses]
        return Found(entries, best or max(missed, key=self.truth.score, default=None), None, no_gain=False)

    def _first(
        self, plan: Plan, doing: str, judge: Callable[[Entry], None] = lambda _entry: None
    ) -> tuple[list[Entry], Entry | None]:
        """Return the candidates that were tried, and of them the first that could be made and that nothing rules out.

        A candidate that an earlier process of this work died of is not made again.

        Args:
            plan: The candidates.
            doing: What is done with them, for the progress.
            judge: Notes in an entry why its form may not be chosen, or raises EngineFailure.
        """
        specs, entries = list(dict.fromkeys((*plan.specs, *plan.otherwise))), list[Entry]()
        for place, spec in enumerate(specs, 1):
            entry = self.journal.find(spec) or Entry(spec)
            entries.append(entry)
            if entry.failure is not None:
                continue
            self.progress(place / (1 + len(specs)), f"{doing} {spec.name}")
            with self.journal.risking(spec.name):
                try:
                    entry.made = self.maker.make(spec)
                    entry.size_bytes = entry.made.form.size_bytes
                    judge(entry)
                except EngineFailure as failure:
                    entry.failure = failure
            if entry.failure is None:
                return entries, entry
        return entries, None
