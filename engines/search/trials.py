"""Tries the candidates, one after the other: each is made, held to the truth and let in among those that stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from engines.runtimes.form import FormSpec
from engines.search.contenders import Contenders
from engines.search.entry import Entry
from engines.search.journal import Journal
from engines.search.record import Conditions, Record
from engines.search.workbench import Workbench

Progress = Callable[[float, str], None]

MAKING_SHARE = 0.7
"""Part of the budget in which forms are made and screened; the rest is for the rungs and the final."""
MOST_OF_THE_REST = 0.5
"""Part of the time that is left for making that one form may take."""
LEAST_MAKING_SECONDS = 5.0
LEADER_SECONDS = 60.0
"""Least time for making again what was made within the budget, by a process that died."""


@dataclass
class Trials:
    """The trials of one search.

    Attributes:
        bench: Makes forms and holds them to the truth.
        contenders: Those that stand.
        journal: What earlier processes of this search found out.
        record: What earlier searches measured.
        conditions: Under what conditions forms are measured.
        progress: Told which form is tried.
        budget: Seconds for the whole search.
        began: When it began, by `time.monotonic()`.
    """

    bench: Workbench
    contenders: Contenders
    journal: Journal
    record: Record
    conditions: Conditions
    progress: Progress
    budget: float
    began: float

    def run(self, specs: Sequence[FormSpec]) -> list[Entry]:
        """Try the candidates and return what is known of each, in their order."""
        known = {spec: entry for spec in specs if (entry := self._known(spec))}
        again = self._again(known.values())
        entries: list[Entry] = []
        for position, spec in enumerate(specs):
            if spec in known and spec not in again:
                entries.append(known[spec])
                continue
            entries.append(Entry(spec))
            seconds = self._seconds(spec)
            if seconds <= 0:
                entries[-1].note = f"not tried: the budget of {self.budget:g} s was spent"
                continue
            self.progress(0.05 + 0.75 * position / len(specs), f"trying {spec.name}")
            with self.journal.risking(spec.name):
                self._try(entries[-1], seconds)
            self.journal.keep(self.contenders.so_far(entries))
        return entries

    def _try(self, entry: Entry, seconds: float) -> None:
        contender = self.bench.attempt(entry, seconds)
        if contender is not None:
            self.contenders.enter(contender, self.bench.judge)

    def _known(self, spec: FormSpec) -> Entry | None:
        return self.journal.find(spec) or self.record.find(self.conditions.key(spec))

    def _seconds(self, spec: FormSpec) -> float:
        """Return the time for making a form; what an earlier process made and leads is what the answer rests on."""
        if self.journal.held(spec):
            return max(self.budget, LEADER_SECONDS)
        left = MAKING_SHARE * self.budget - (time.monotonic() - self.began)
        return max(MOST_OF_THE_REST * left, min(left, LEAST_MAKING_SECONDS))

    def _again(self, known: Iterable[Entry]) -> set[FormSpec]:
        """Return what is built anew though it was measured: the best of what was, and the best default."""
        ranked = sorted((entry for entry in known if entry.holds), key=self._earlier_merit, reverse=True)
        defaults = [entry for entry in ranked if entry.spec.is_default]
        return {entry.spec for entry in (*ranked[:1], *defaults[:1])}

    def _earlier_merit(self, entry: Entry) -> float:
        assert entry.latency is not None  # it was measured
        return -float(entry.size_bytes) if self.contenders.by_size else entry.latency.speedup
