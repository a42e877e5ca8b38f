"""Repairs quantized forms that are fast and miss the tolerance: the nodes that cost most stay in floating point."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from engines.runtimes.form import FormSpec
from engines.search.entry import Entry
from engines.search.final import LEAST_NOISE
from engines.search.ladder import climb
from engines.search.trials import REPAIR_SHARE, Trials

log = logging.getLogger(__name__)

SIMILAR = 1.1
"""Errors up to this ratio are alike: of such forms the fastest is repaired."""
WORTH = 1.1
"""How many times faster than the best a form has to be for a repair, if the best is faster than the source itself."""
_MOST_OF_THE_REST = 0.3
"""Part of the remaining time that finding the costly nodes may take."""


class NodeOrder(Protocol):
    """Knows which nodes of a quantized form cost most."""

    def costly_nodes(self, spec: FormSpec, seconds: float) -> list[str]:
        """Return the quantized nodes of a form, the one that costs most first; none if the costs are unknown.

        Args:
            spec: A form whose quantized graph was made.
            seconds: Time for it.
        """
        ...


class _NotWorthIt(Exception):  # noqa: N818 - no error: the climb ends
    """There is no time left, or what was climbed is slower than the best already."""


@dataclass(frozen=True)
class _Rung:
    entry: Entry

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the form; it is still in the contest, so it may lack a latency."""
        return self.entry.failure is None


@dataclass
class Repairs:
    """The repairs of one search: one climb for each runtime at most.

    Attributes:
        trials: The trials of the search.
        nodes: Knows which nodes cost most.
        climbed: The forms that were repaired, or could not be.
    """

    trials: Trials
    nodes: NodeOrder
    climbed: list[FormSpec] = field(default_factory=list)

    def run(self) -> None:
        """Repair forms that are worth it, while there is time."""
        while self.trials.seconds_left(REPAIR_SHARE) > 0 and (miss := self._next()) is not None:
            self.climbed.append(miss.spec)
            nodes = self._order(miss.spec)
            if nodes:
                log.info("%s: climbing over %d nodes, %s first", miss.spec.name, len(nodes), ", ".join(nodes[:3]))
                self._climb(miss.spec, nodes)

    def _next(self) -> Entry | None:
        """Return the form to repair: of those that miss the tolerance by least, the fastest.

        They have to be faster than the best form; if there is none, those no slower than the source go first.
        """
        contenders, score = self.trials.contenders, self.trials.bench.truth.score
        runtimes = {spec.runtime for spec in self.climbed}
        missed = [
            (entry, contenders.merit(entry))
            for entry in self.trials.entries
            if entry.misses and entry.latency and entry.spec.quantizer and not entry.spec.kept
            if entry.spec.runtime not in runtimes
        ]
        floor = 1 / LEAST_NOISE
        for best in contenders.ranked[:1]:
            beside = contenders.ahead(best, contenders.baseline)
            floor = beside.ratio * (WORTH if beside.low > LEAST_NOISE else LEAST_NOISE)
        quick = [pair for pair in missed if pair[1] > floor]
        pool = quick if quick or contenders.members else missed
        least = min((1 - score(entry) for entry, _ in pool), default=0.0)
        close = [pair for pair in pool if 1 - score(pair[0]) <= SIMILAR * least]
        return max(close, key=lambda pair: pair[1], default=(None, 0.0))[0]

    def _order(self, spec: FormSpec) -> list[str]:
        step = f"the costs of the nodes of {spec.name}"
        if self.trials.journal.died_of(step):
            return []
        self.trials.progress(0.8, f"looking for the nodes that cost most in {spec.name}")
        with self.trials.journal.risking(step):
            return self.nodes.costly_nodes(spec, _MOST_OF_THE_REST * self.trials.seconds_left(REPAIR_SHARE))

    def _climb(self, spec: FormSpec, nodes: Sequence[str]) -> None:
        try:
            top = climb(nodes, lambda kept: self._rung(spec, kept)).top
        except _NotWorthIt:
            return
        log.info("%s: %s", spec.name, f"{top.entry.spec.name} holds" if top else "no rung of the ladder holds")

    def _rung(self, spec: FormSpec, kept: Sequence[str]) -> _Rung | None:
        if self.trials.seconds_left(REPAIR_SHARE) <= 0:
            raise _NotWorthIt
        entry = self.trials.attempt(replace(spec, kept=(*spec.kept, *kept)), share=REPAIR_SHARE)
        if entry.failure is None and entry.note:  # too slow, or not made in time: more nodes make it no faster
            raise _NotWorthIt
        return _Rung(entry) if entry.failure is None or entry.misses else None
