"""Tries candidates one after the other: each is made, compared with the source, timed and admitted to the contest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from engines.runtimes.form import OPEN_QUANTIZER, FormSpec
from engines.search.contenders import Contenders
from engines.search.entry import Entry
from engines.search.final import LEAST_NOISE
from engines.search.journal import Journal
from engines.search.record import Conditions, Record
from engines.search.workbench import Workbench

Progress = Callable[[float, str], None]

MAKING_SHARE = 0.7
"""Part of the budget in which candidates are made and screened; the rest is for repairs, the rungs and the final."""
REPAIR_SHARE = 0.8
"""Part of the budget by which repairs have to be made."""
MOST_OF_THE_REST = 0.5
"""Part of the time that is left for making that one form may take."""
LEAST_MAKING_SECONDS = 5.0
LEADER_SECONDS = 60.0
"""Least time for making again a form that a process which died had made within the budget."""


@dataclass
class Trials:
    """The trials of one search.

    Attributes:
        bench: Makes forms and compares them with the source.
        contenders: The forms in the contest.
        journal: The state that earlier processes of this search left.
        record: The measurements of earlier searches.
        conditions: Under what conditions forms are measured.
        progress: Receives the form that is tried.
        budget: Seconds for the whole search; may be infinite.
        began: When it began, by `time.monotonic()`.
        entries: The entry of each candidate, in the order in which they were tried.
    """

    bench: Workbench
    contenders: Contenders
    journal: Journal
    record: Record
    conditions: Conditions
    progress: Progress
    budget: float
    began: float
    entries: list[Entry] = field(default_factory=list)
    _leading: float = 0.0
    _again: set[FormSpec] = field(default_factory=set)

    def run(self, specs: Sequence[FormSpec], otherwise: Sequence[FormSpec] = ()) -> list[FormSpec]:
        """Try the candidates; return those whose quantizer could not be chosen yet.

        Args:
            specs: The candidates, the most promising first. One whose quantizer is `OPEN_QUANTIZER` takes that of the
                best quantized form of its runtime.
            otherwise: Quantized candidates that are tried only if no quantized form of their runtime is in the contest
                and faster than the source.
        """
        known = [entry for spec in (*specs, *otherwise) if (entry := self._known(spec))]
        self._again = self._leaders(known)
        waiting = []
        for position, spec in enumerate(specs):
            chosen = self.chosen(spec)
            if chosen is None:
                waiting.append(spec)
            else:
                self.attempt(chosen, 0.05 + 0.7 * position / len(specs))
        for spec in otherwise:
            if not self.has_won(spec.runtime):
                self.attempt(spec, 0.75)
        return waiting

    def attempt(self, spec: FormSpec, fraction: float = 0.8, share: float = MAKING_SHARE) -> Entry:
        """Try one candidate and return what is known of it.

        Args:
            spec: The candidate.
            fraction: How far the search is.
            share: Part of the budget by which it has to be made.
        """
        known = self._known(spec)
        if known and not self._makes_again(known):
            self.entries.append(known)
            return known
        entry = Entry(spec)
        self.entries.append(entry)
        seconds = self._seconds(spec, share)
        if seconds <= 0:
            entry.note = f"not tried: the budget of {self.budget:g} s was spent"
            return entry
        self.progress(fraction, f"trying {spec.name}")
        with self.journal.risking(spec.name):
            contender = self.bench.attempt(entry, seconds)
            if contender is not None:
                self.contenders.enter(contender, self.bench.judge)
        self.journal.keep(self.contenders.so_far(self.entries))
        return entry

    def chosen(self, spec: FormSpec) -> FormSpec | None:
        """Return a candidate with its quantizer: that of the best quantized form of its runtime; None if there is none.

        A candidate that names its quantizer, or has none, stays as it is.
        """
        if spec.quantizer != OPEN_QUANTIZER:
            return spec
        quantized = [form for form in self._quantized(spec.runtime) if form.precision == spec.precision]
        return replace(spec, quantizer=quantized[0].quantizer, kept=quantized[0].kept) if quantized else None

    def has_won(self, runtime: str) -> bool:
        """Return whether a quantized form of a runtime is in the contest and faster than the source beyond noise."""
        ahead = self.contenders.ahead
        return any(
            form.entry.spec.runtime == runtime
            and form.entry.spec.quantizer
            and ahead(form, self.contenders.baseline).low > LEAST_NOISE
            for form in self.contenders.members
        )

    def seconds_left(self, share: float) -> float:
        """Return the seconds until a part of the budget is spent."""
        return share * self.budget - (time.monotonic() - self.began)

    def _quantized(self, runtime: str) -> list[FormSpec]:
        """Return the quantized forms of a runtime that hold, the fastest first."""
        found = [
            (self.contenders.merit(entry), entry.spec)
            for entry in self.contenders.so_far(self.entries)
            if entry.holds and entry.spec.quantizer and entry.spec.runtime == runtime
        ]
        return [spec for _, spec in sorted(found, key=lambda pair: pair[0], reverse=True)]

    def _known(self, spec: FormSpec) -> Entry | None:
        return self.journal.find(spec) or self.record.find(self.conditions.key(spec))

    def _seconds(self, spec: FormSpec, share: float) -> float:
        """Return the time for making a form; a form that an earlier process measured may take as long as it needs."""
        if self.journal.held(spec):
            return max(self.budget, LEADER_SECONDS)
        left = self.seconds_left(share)
        return max(MOST_OF_THE_REST * left, min(left, LEAST_MAKING_SECONDS))

    def _leaders(self, known: Iterable[Entry]) -> set[FormSpec]:
        """Return the measured forms that are built again: the best form, and the best default."""
        ranked = sorted((entry for entry in known if entry.holds), key=self.contenders.merit, reverse=True)
        self._leading = self.contenders.merit(ranked[0]) if ranked else 0.0
        defaults = [entry for entry in ranked if entry.spec.is_default]
        return {entry.spec for entry in (*ranked[:1], *defaults[:1])}

    def _makes_again(self, known: Entry) -> bool:
        """Return whether a form that was measured may become the answer, so that it has to be made again."""
        return known.spec in self._again or (known.holds and self.contenders.merit(known) > self._leading)
