"""All forms of one model, each in a process of its own, compared with the truth and timed in turns.

Each round gives every form one turn, in random order, its process awake alone. A turn begins with untimed calls that
bring caches and threads back, and counts the median of its timed ones. Ratios are medians over rounds of the ratio
within the round, with the bootstrap interval of engines.timing.paired. A form may stand as a control: the same once
more, in another process; how far its ratio to the first is from 1 is what noise alone does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engines.failures import EngineFailure
from engines.parity.comparison import OutputComparison
from engines.runtimes.form import Made
from engines.spec.tolerances import TOLERANCES
from engines.tensors import Arrays
from engines.timing.paired import median_interval
from engines.timing.process import FormProcess
from tests.bench import child

CONTROL = ", again"
_TURN_SECONDS = 0.03
_WARM_SECONDS = 0.01
_MOST_CALLS = 500


@dataclass(frozen=True)
class Entrant:
    """A form that enters: its name in tables, what it is, and which runner opens it."""

    name: str
    made: Made
    runner: type[FormProcess] = FormProcess


@dataclass
class Standing:
    """What came of a form.

    Attributes:
        name: Name in tables.
        precision: What it computes in.
        form: What it is, in words.
        cosine: The lowest over outputs, against the truth.
        max_rel: The largest error relative to the largest output.
        turns: Seconds of a call, by round; empty if it failed.
        memory_bytes: Largest resident memory of its process.
        failure: Why it has no figures.
    """

    name: str
    precision: str
    form: str
    cosine: float = math.nan
    max_rel: float = math.nan
    turns: list[float] = field(default_factory=list)
    memory_bytes: int = 0
    failure: str = ""

    @property
    def median_ms(self) -> float:
        """Median of its turns, in milliseconds."""
        return float(np.median(self.turns) * 1000) if self.turns else math.nan

    def faster_than(self, other: Standing) -> tuple[float, float, float]:
        """Return how many times faster it is than another of the same contest, with the 95 % interval."""
        if not (self.turns and other.turns):
            return math.nan, math.nan, math.nan
        ratios = np.asarray(other.turns) / np.asarray(self.turns)
        return float(np.median(ratios)), *median_interval(ratios, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**self.__dict__, "median_ms": self.median_ms}


@dataclass
class _Seat:
    standing: Standing
    runner: FormProcess
    warm: int = 1
    calls: int = 1

    def settle(self) -> None:
        """Find how many calls make a turn."""
        seconds = max(float(np.median(self.runner.turn(0, 3, warm=2))), 1e-7)
        self.calls = max(1, min(_MOST_CALLS, math.ceil(_TURN_SECONDS / seconds)))
        self.warm = max(1, min(_MOST_CALLS, math.ceil(_WARM_SECONDS / seconds)))


def hold(
    entrants: Sequence[Entrant],
    feeds: Sequence[Arrays],
    truth: Sequence[Arrays],
    workdir: Path,
    *,
    rounds: int,
    controls: Sequence[str] = (),
) -> dict[str, Standing]:
    """Open, compare and time the forms; return their standings by name, those of controls under `<name>, again`.

    Args:
        entrants: The forms.
        feeds: Inputs; the first is timed.
        truth: What the network computes of them.
        workdir: Where runners keep their files.
        rounds: Turns of each form.
        controls: Names of forms that stand twice.
    """
    again = [Entrant(each.name + CONTROL, each.made, each.runner) for each in entrants if each.name in controls]
    standings: dict[str, Standing] = {}
    with ExitStack() as stack:
        seats = []
        for entrant in [*entrants, *again]:
            spec = entrant.made.spec
            standing = standings[entrant.name] = Standing(entrant.name, spec.precision, spec.name)
            try:
                runner = stack.enter_context(entrant.runner.open(entrant.made, child.cores(), workdir))
                standing.cosine, standing.max_rel = parity(truth, runner.run(feeds))
                seat = _Seat(standing, runner)
                seat.settle()
                seats.append(seat)
            except EngineFailure as failure:
                standing.failure = f"{failure.message} {failure.evidence[-200:]}".strip()
        _play(seats, rounds)
    return standings


def parity(truth: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the lowest cosine over outputs and the largest relative error; outputs are matched by their order."""
    comparisons = {name: OutputComparison(name) for name in truth[0]}
    for expected, answer in zip(truth, found, strict=True):
        for (name, source), target in zip(expected.items(), answer.values(), strict=True):
            comparisons[name].add(source, target.reshape(source.shape))
    results = [comparison.result(TOLERANCES["FP32"]) for comparison in comparisons.values()]
    return min(result.cosine for result in results), max(result.max_rel_error for result in results)


def _play(seats: list[_Seat], rounds: int) -> None:
    order = random.Random(0)
    for _ in range(rounds):
        for seat in order.sample(seats, len(seats)):
            try:
                seat.standing.turns.append(float(np.median(seat.runner.turn(0, seat.calls, warm=seat.warm))))
            except EngineFailure as failure:
                seat.standing.failure, seat.standing.turns = failure.message, []
                seats.remove(seat)
    for seat in seats:
        seat.standing.memory_bytes = seat.runner.memory_bytes
