"""The forms that may still win, and how they are eliminated: in rounds, the hopeless first.

Successive halving (Jamieson & Talwalkar, AISTATS 2016) over a race (Maron & Moore, NIPS 1993): a rung doubles the
rounds; then the forms that are slower than the best beyond doubt leave, and then the slower half, until two are left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engines.runtimes.form import Made
from engines.search.entry import Entry, FormContender
from engines.timing.process import FormProcess
from engines.timing.tournament import MOST_ROUNDS, Speed, Tournament

log = logging.getLogger(__name__)

HOPELESS = 0.97
"""Below this part of the best's speed, by the upper end of the interval, a form goes."""
FINALISTS = 2
MOST_STANDING = 6
SCREEN_ROUNDS, SCREEN_SECONDS = 4, 0.7
LONG_ROUND_SECONDS = 1.0
"""If a round takes longer, two rounds are enough at the entry: noise matters less in long calls, which cost time."""
RUNG_ROUNDS = 8
MOST_REOPENED = 3
"""Most times that the source's process may be lost in a search."""


@dataclass
class Contenders:
    """The forms that may still win, and the source that they are timed against.

    Attributes:
        tournament: Times them.
        baseline: The source form, which takes part in every round and never leaves.
        by_size: Whether bytes are compared, and times are only reported.
        memory_bytes: Most resident memory of all open processes together.
        reopen: Opens another process of the source form.
        members: The forms that may still win.
        left: The entries that were eliminated, each with the best entry at that time and its speed relative to that.
        leader: The best form when the last candidate had been tried; it takes part in the final.
    """

    tournament: Tournament
    baseline: FormContender
    by_size: bool
    memory_bytes: int
    reopen: Callable[[Made], FormProcess]
    members: list[FormContender] = field(default_factory=list)
    left: list[tuple[Entry, Entry, Speed]] = field(default_factory=list)
    leader: FormContender | None = None
    _reopened: int = 0

    def ahead(self, form: FormContender, other: FormContender) -> Speed:
        """Return how many times better a form is than another: faster, or smaller if size is the objective."""
        if not self.by_size:
            return self.tournament.speed(form, other)
        ratio = other.entry.size_bytes / max(1, form.entry.size_bytes)
        return Speed(ratio, ratio, ratio, 0)

    def merit(self, entry: Entry) -> float:
        """Return how many times better a form that was measured is than the baseline."""
        if self.by_size:
            return self.baseline.entry.size_bytes / max(1, entry.size_bytes)
        return entry.latency.speedup if entry.latency else 0.0

    def is_hopeless(self, form: FormContender) -> bool:
        """Return whether a form is slower than the best beyond doubt."""
        return self.ahead(form, self.ranked[0]).high < HOPELESS

    @property
    def ranked(self) -> list[FormContender]:
        """The members, the best first."""
        return sorted(self.members, key=lambda form: self.ahead(form, self.baseline).ratio, reverse=True)

    @property
    def best_default(self) -> FormContender | None:
        """The best of the runtimes' defaults, which users would take without a search."""
        return next((form for form in self.ranked if form.entry.spec.is_default), None)

    def enter(self, new: FormContender, accurate: Callable[[FormContender], bool]) -> None:
        """Time a form and admit it, unless it may not be chosen, is hopelessly slower than the best, or inaccurate."""
        best = self.ranked[:1]
        slow = best and new.call_seconds > 5 * best[0].call_seconds
        long = sum(form.call_seconds for form in (self.baseline, *best, new)) > LONG_ROUND_SECONDS
        least = 2 if slow or long else SCREEN_ROUNDS
        self.rounds([*best, new], SCREEN_SECONDS, least=least, most=2 * RUNG_ROUNDS)
        if new.failure is not None:
            return
        if new.objection is not None:
            self._close(new)
            new.entry.failure = new.objection
        elif best and best[0] in self.members and self.ahead(new, best[0]).high < HOPELESS:
            self._eliminate(new, best[0])
        elif not accurate(new):
            self._close(new)
        else:
            self.members.append(new)
            self._trim()

    def rung(self, number: int, seconds: float) -> None:
        """Run a rung: time all forms, then eliminate the hopeless, then the slower half."""
        least = 1 if seconds <= 0 else SCREEN_ROUNDS
        self.rounds(self.members, seconds, least=least, most=RUNG_ROUNDS << number)
        ranked = self.ranked
        for form in ranked[1:]:
            if self.is_hopeless(form):
                self._leave(form)
        self._keep(max(FINALISTS, (len(self.members) + 1) // 2))

    def dismiss(self, finalists: Sequence[FormContender]) -> None:
        """Remove the forms that are not in the final."""
        for form in self.ranked:
            if form not in finalists:
                self._leave(form)

    def settle(self) -> None:
        """Write what was measured into the entries, after the last rounds.

        An eliminated form had few turns with the source: its speed-up is that over the best form times the latter's.
        """
        for form in (self.baseline, *self.members):
            self.measured(form)
        for entry, best, beside in reversed(self.left):
            if entry.latency and best.latency and beside.rounds:
                entry.latency = replace(
                    entry.latency,
                    speedup=best.latency.speedup * beside.ratio,
                    speedup_low=best.latency.speedup_low * beside.low,
                    speedup_high=best.latency.speedup_high * beside.high,
                )

    def measured(self, form: FormContender) -> None:
        """Write what was measured of a form into its entry."""
        vars(form.entry).update(self._figures(form))

    def so_far(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return what is known of forms so far; members' own entries are written at the end."""
        standing = {id(form.entry): form for form in self.members}
        return [
            replace(entry, **self._figures(standing[id(entry)])) if id(entry) in standing else entry
            for entry in entries
        ]

    def rounds(
        self,
        forms: Sequence[FormContender],
        seconds: float,
        *,
        least: int,
        most: int = MOST_ROUNDS,
        control: FormContender | None = None,
    ) -> list[FormContender]:
        """Give turns to forms and to the source; return the forms that did not fail.

        If the source's process is lost, another one takes its place, a few times, and the rounds start again: turns
        without the source cannot be compared.

        Args:
            forms: The forms that take turns.
            seconds: Time for it.
            least: Fewest rounds.
            most: Most rounds.
            control: The source once more; if its process is lost, it shares the other's.

        Raises:
            EngineFailure: The source form itself fails, again and again.
        """
        sources = [self.baseline, *([control] if control else [])]
        while True:
            alive = self.tournament.rounds([*sources, *forms], seconds, least=least, most=most)
            self.members = [form for form in self.members if form.failure is None]
            forms = [form for form in forms if form in alive]
            if all(source in alive for source in sources):
                return list(forms)
            if self.baseline not in alive:
                self._reopen()
            if control and control not in alive:
                control.process = self.baseline.process
            self.baseline.failure = self.baseline.entry.failure = None

    def close(self) -> None:
        """End every process."""
        for form in (self.baseline, *self.members):
            form.process.close()

    def _reopen(self) -> None:
        failure, made = self.baseline.entry.failure, self.baseline.entry.made
        assert failure is not None  # it was lost
        assert made is not None  # it ran
        self._reopened += 1
        if self._reopened > MOST_REOPENED:
            raise failure
        log.warning("%s Another process of the source form takes its place.", failure.message)
        self.baseline.process = self.reopen(made)

    def _figures(self, form: FormContender) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "latency": self.tournament.latency(form, self.baseline),
            "memory_bytes": max(form.entry.memory_bytes, form.process.memory_bytes),
        }
        if self.tournament.load and form.calls:
            figures["samples_per_second"] = self.tournament.batch / form.median
        return figures

    def _trim(self) -> None:
        """Keep only as many forms as fit into memory together."""
        self._keep(MOST_STANDING)
        while (
            len(self.members) > FINALISTS
            and sum(form.process.memory_bytes for form in (self.baseline, *self.members)) > self.memory_bytes
        ):
            before = len(self.members)
            self._keep(before - 1)
            if len(self.members) == before:
                return

    def _keep(self, count: int) -> None:
        """Keep the best, the leader and the best default: the final needs them."""
        kept = {id(self.best_default), id(self.leader)}
        for form in self.ranked[count:]:
            if id(form) not in kept:
                self._leave(form)

    def _leave(self, form: FormContender) -> None:
        self._eliminate(form, self.ranked[0])
        self.members.remove(form)

    def _eliminate(self, form: FormContender, best: FormContender) -> None:
        ahead = self._beside(form, best)
        what = f"{1 / ahead:.2f}x the size" if self.by_size else f"{ahead:.2f}x"
        rounds = f"{len(form.turns)} round{'' if len(form.turns) == 1 else 's'}"
        form.entry.note = f"eliminated after {rounds}: {what} of the best"
        self.left.append((form.entry, best.entry, self.tournament.speed(form, best)))
        self._close(form)

    def _beside(self, form: FormContender, best: FormContender) -> float:
        """Return how many times better a form is than the best; via the source if the two were never timed together."""
        ahead = self.ahead(form, best)
        if self.by_size or ahead.rounds:
            return ahead.ratio
        return self.ahead(form, self.baseline).ratio / self.ahead(best, self.baseline).ratio

    def _close(self, form: FormContender) -> None:
        self.measured(form)
        form.process.close()
