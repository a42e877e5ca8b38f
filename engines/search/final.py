"""The final: the best forms, the leader of the trials and the best default are timed against the source once more.

The rounds that chose a form flatter it: of many equal ones the luckiest leads. So the final forgets those rounds. The
source takes part twice, in two processes: their difference is the noise, between processes too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from engines.failures import EngineFailure
from engines.search.contenders import FINALISTS, Contenders
from engines.search.entry import FormContender
from engines.search.workbench import Workbench
from engines.spec.toolchain import hardware
from engines.timing.paired import ProfileReport
from engines.timing.tournament import LEAST_ROUNDS, Speed

FINAL_SECONDS = 8.0
ALONE_ROUNDS = 2
"""Fewest rounds of a source that nothing is compared with."""
MORE_SECONDS = 4.0
LEAST_NOISE = 1.02
"""Difference between two processes of one form even on a quiet machine, as their memory layouts differ."""
MOST_SECONDS = 32.0
TIE = 1.015
"""A form that is better by less gives way to a simpler one: two processes of one form differ by as much."""


Ahead = Callable[[FormContender, FormContender], Speed]


@dataclass(frozen=True)
class Outcome:
    """The outcome of the final.

    Attributes:
        chosen: The form that won; None if there was none.
        gain: Whether it beats the source beyond noise.
        reason: Why there is no gain; empty if there is one.
        profile: The source, the winner, and the source against itself.
    """

    chosen: FormContender | None
    gain: bool
    reason: str
    profile: ProfileReport


class Final:
    """Runs the final of the remaining forms."""

    def __init__(self, contenders: Contenders, bench: Workbench, seconds: float | None = None) -> None:
        """Choose the forms that take part; `seconds` replaces `FINAL_SECONDS`."""
        self._seconds = FINAL_SECONDS if seconds is None else seconds
        self._contenders = contenders
        self._bench = bench
        self._forms = contenders.ranked[:FINALISTS]
        for form in (contenders.leader, contenders.best_default):
            if form in contenders.members and form not in self._forms:
                self._forms.append(form)
        contenders.dismiss(self._forms)

    def hold(self, until: float) -> Outcome:
        """Run the final; if no form is left, the source is timed alone, in its own process.

        Args:
            until: By `time.monotonic()`, how long it may take; at least `LEAST_ROUNDS` are run (`ALONE_ROUNDS` if
                no form is left).

        Raises:
            EngineFailure: The source form itself failed.
        """
        control = self._control()
        for form in (self._contenders.baseline, control, *self._forms):
            form.forget()
        try:
            self._rounds(control, min(until - time.monotonic(), self._seconds))
            last = min(until, time.monotonic() + MOST_SECONDS * self._seconds / FINAL_SECONDS)
            while self._unclear(control) and time.monotonic() + MORE_SECONDS < last:
                self._rounds(control, MORE_SECONDS)
        finally:
            if control.process is not self._contenders.baseline.process:
                control.process.close()
        self._contenders.settle()
        return self._outcome(control)

    def _control(self) -> FormContender:
        baseline = self._contenders.baseline
        assert baseline.entry.made is not None  # it runs
        process = baseline.process  # if memory suffices for one only: the same process under two names
        with contextlib.suppress(EngineFailure):
            if self._forms:
                process = self._bench.source_process(baseline.entry.made, self._bench.memory_bytes)
        return FormContender.of(baseline.entry, process, baseline.call_seconds)

    def _rounds(self, control: FormContender, seconds: float) -> None:
        least = LEAST_ROUNDS if self._forms else ALONE_ROUNDS
        self._forms = self._contenders.rounds(self._forms, seconds, least=least, control=control)

    def _noise(self, control: FormContender) -> float:
        if self._contenders.by_size:
            return LEAST_NOISE  # sizes have no noise, but a smaller gain helps nobody
        # The median only: the scatter of the rounds is in the interval of the gain already, and must not count twice.
        itself = self._contenders.tournament.speed(control, self._contenders.baseline).ratio
        return max(itself, 1 / itself, LEAST_NOISE)

    def _unclear(self, control: FormContender) -> bool:
        """Return whether more rounds may show a gain over the source, or a lead over the others, that noise hides."""
        if not self._forms or self._contenders.by_size:
            return False
        chosen, noise = self._choice(), self._noise(control)
        gain = self._gain(chosen, control)
        if gain.low <= noise < gain.ratio:
            return True
        leads = (self._contenders.ahead(chosen, other) for other in self._forms if other is not chosen)
        return any(lead.low < 1 / TIE and lead.high > TIE for lead in leads)

    def _choice(self) -> FormContender:
        """Return the best form; of those nearly as good, the simplest; of those equally small, of the fastest."""
        tied = self._tied(self._forms, self._contenders.ahead)
        if self._contenders.by_size:
            tied = self._tied(tied, self._contenders.tournament.speed)
        place = self._contenders.members.index
        return min(tied, key=lambda form: (form.entry.spec.simplicity[:2], len(form.entry.spec.kept), place(form)))

    def _tied(self, forms: list[FormContender], ahead: Ahead) -> list[FormContender]:
        """Return the best and those that are nearly as good."""
        best = max(forms, key=lambda form: ahead(form, self._contenders.baseline).ratio)
        return [form for form in forms if form is best or ahead(form, best).ratio >= 1 / TIE]

    def _outcome(self, control: FormContender) -> Outcome:
        tournament, baseline = self._contenders.tournament, self._contenders.baseline
        chosen = self._choice() if self._forms else None
        source, itself = tournament.latency(baseline, baseline), tournament.latency(control, baseline)
        assert source is not None and itself is not None  # noqa: PT018 - both took part in the same rounds
        best = tournament.latency(chosen, baseline) if chosen else None
        profile = ProfileReport(
            (source, *([best.beside(source.median_ms)] if best else [])),
            itself,
            len(baseline.turns),
            self._bench.threads,
            tournament.batch,
            hardware(),
        )
        gain, reason = self._judge(chosen, control)
        return Outcome(chosen, gain, reason, profile)

    def _gain(self, form: FormContender, control: FormContender) -> Speed:
        """Return how many times faster a form is than the source, in the faster of the source's two processes."""
        ahead = self._contenders.ahead
        return min(ahead(form, self._contenders.baseline), ahead(form, control), key=lambda speed: speed.low)

    def _judge(self, chosen: FormContender | None, control: FormContender) -> tuple[bool, str]:
        if chosen is None:
            return False, (
                "No other form that computes what the source computes was made and measured within the budget; the "
                "candidates say why."
            )
        gain, noise = self._gain(chosen, control), self._noise(control)
        if gain.low > noise:
            return True, ""
        if self._contenders.by_size:
            return False, f"The smallest form, {chosen.name}, has {1 / gain.ratio:.2f}x the size of the source form."
        return False, (
            f"The best form, {chosen.name}, is {gain.ratio:.2f}x as fast as the source form ({gain.low:.2f}x to "
            f"{gain.high:.2f}x), which is within the noise of {noise:.2f}x."
        )
