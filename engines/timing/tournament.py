"""Times forms against each other: one at a time, in turns, in rounds of random order.

Every round gives each form one turn, so that two forms are compared by the ratios of turns of the same rounds: changes
from one minute to the next (clocks, other processes) are in both. The ratio's median and its 95 % bootstrap interval
are those of engines.timing.paired.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from engines.failures import EngineFailure
from engines.tensors.samples import Samples
from engines.tensors.signature import TensorSpec
from engines.timing.paired import CALLS_PER_TURN, SLOW_CALL_SECONDS, Latency, median_interval, paired_latency
from engines.timing.process import FormProcess

LEAST_ROUNDS = 5
"""Fewest rounds that a conclusion rests on: five give a 95 % interval of the median at all."""
MOST_ROUNDS = 200
TURN_SECONDS = 0.006
"""Least time of a turn's timed calls: three calls of 20 µs would measure the clock rather than the form."""
MOST_CALLS = 200
LOAD_SECONDS = (0.1, 0.5)
"""Least and most time of a turn at full load, which takes that of `LOAD_CALLS` calls between the two."""
LOAD_CALLS = 8


@dataclass
class Contender:
    """A form that takes turns.

    Attributes:
        name: Name of the form.
        process: The form, open.
        call_seconds: Rough time of a call, which sets the length of its turns.
        turns: Seconds of a call in each round that it took part in.
        calls: Seconds of each timed call.
        failure: Why it stopped taking part; None if it did not.
    """

    name: str
    process: FormProcess
    call_seconds: float
    turns: dict[int, float] = field(default_factory=dict)
    calls: list[float] = field(default_factory=list)
    failure: EngineFailure | None = None

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return float(np.median(self.calls))

    def fail(self, failure: EngineFailure) -> None:
        """Note why it takes no further part, and end its process."""
        self.failure = failure
        self.process.close()

    def forget(self) -> None:
        """Start over: the rounds that chose a form flatter it."""
        self.turns.clear()
        self.calls.clear()


AnyContender = TypeVar("AnyContender", bound=Contender)


@dataclass(frozen=True)
class Speed:
    """How many times faster one form is than another, with the 95 % interval, over some rounds."""

    ratio: float
    low: float
    high: float
    rounds: int


@dataclass
class Tournament:
    """Rounds of turns.

    Attributes:
        feed: Position of the feed that every turn computes.
        batch: Samples in it.
        load: Whether turns are at full load, with several calls at once; else a call at a time.
        seed: Seed of the order and of the bootstrap.
    """

    feed: int
    batch: int
    load: bool = False
    seed: int = 0
    _round: int = 0

    def __post_init__(self) -> None:
        """Begin the order that the rounds take."""
        self._order = random.Random(self.seed)  # noqa: S311  # an order, not a secret

    def rounds(
        self, contenders: Sequence[AnyContender], seconds: float, *, least: int = LEAST_ROUNDS, most: int = MOST_ROUNDS
    ) -> list[AnyContender]:
        """Give turns to all until the time is over, and at least in some rounds; return those that did not fail.

        One that fails or dies leaves with its failure in its entry; the others go on.
        """
        alive, done, start = list(contenders), 0, time.monotonic()
        while len(alive) > 0 and (done < least or (done < most and time.monotonic() - start < seconds)):
            self._round += 1
            slow = max(contender.call_seconds for contender in alive) > SLOW_CALL_SECONDS
            for contender in self._order.sample(alive, len(alive)):
                try:
                    self._turn(contender, slow=slow)
                except EngineFailure as failure:
                    contender.fail(failure)
                    alive.remove(contender)
            done += 1
        return alive

    def speed(self, form: Contender, other: Contender) -> Speed:
        """Return how many times faster a form is than another, from the rounds that both took part in."""
        common = sorted(form.turns.keys() & other.turns.keys())
        if not common:
            return Speed(1.0, 0.0, math.inf, 0)
        ratios = np.array([other.turns[number] / form.turns[number] for number in common])
        low, high = median_interval(ratios, self.seed)
        return Speed(float(np.median(ratios)), low, high, len(common))

    def latency(self, form: Contender, baseline: Contender) -> Latency | None:
        """Return a form's latency, and its speed-up over the baseline; None if they never met."""
        common = sorted(form.turns.keys() & baseline.turns.keys())
        if not common:
            return None
        reference, turns = [baseline.turns[key] for key in common], [form.turns[key] for key in common]
        return paired_latency(form.name, form.calls, reference, turns, self.seed)

    def _turn(self, contender: Contender, *, slow: bool) -> None:
        """Take one turn: the median of its timed calls, or a call's share of the time at full load."""
        if self.load:
            seconds = min(max(LOAD_CALLS * contender.call_seconds, LOAD_SECONDS[0]), LOAD_SECONDS[1])
            rate = contender.process.throughput(self.feed, seconds, self.batch)
            times = [self.batch / rate]
        elif slow:
            times = contender.process.turn(self.feed, 1, warm=1 if contender.call_seconds < SLOW_CALL_SECONDS else 0)
        else:
            calls = calls_of_turn(contender.call_seconds)
            times = contender.process.turn(self.feed, calls, warm=max(1, calls // CALLS_PER_TURN))
        contender.turns[self._round] = float(np.median(times))
        contender.calls.extend(times)


def calls_of_turn(call_seconds: float) -> int:
    """Return how many calls of that length make a turn."""
    wanted = math.ceil(TURN_SECONDS / max(call_seconds, 1e-9))
    return min(MOST_CALLS, max(CALLS_PER_TURN, wanted))


def timed_feed(samples: Samples, inputs: Sequence[TensorSpec], *, largest_batch: bool) -> int:
    """Return the position of the feed to time: the closest to the shapes that the model is for.

    Args:
        samples: The feeds.
        inputs: The inputs, with those shapes as `opt`.
        largest_batch: Whether the largest batch is wanted if the batch is dynamic; else that of `opt`.
    """

    def distance(position: int) -> tuple[float, int]:
        feed, off, batch = samples.feeds[position], 0.0, 1
        for spec in inputs:
            shape = feed[spec.name].shape
            for axis, (extent, wanted, low, high) in enumerate(zip(shape, spec.opt, spec.min, spec.max, strict=False)):
                if axis == spec.batch_axis and low != high and largest_batch:
                    batch = max(batch, extent)
                else:
                    off += abs(math.log(max(extent, 1) / max(wanted, 1)))
        return off, -batch

    return min(range(len(samples.feeds)), key=distance)
