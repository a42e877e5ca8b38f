"""Latency of several forms of one model, paired and interleaved in one process, with an A/A control.

Each round runs every form once, in a random order, and the baseline twice, under two names. A speed-up is the median
over the rounds of baseline / form; its 95 % interval is the percentile bootstrap of that median (Efron & Tibshirani, An
Introduction to the Bootstrap, 13.3). The baseline's speed-up over itself shows what noise alone does: a gain that does
not leave its interval is no gain.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engines.tensors import Array

Call = Callable[[], object]

BUDGET_SECONDS = 3.0
LEAST_ROUNDS = 5
MOST_ROUNDS = 200
CALLS_PER_TURN = 3
"""Timed calls of one turn, whose median counts; an untimed one before them brings caches and threads back."""
SLOW_CALL_SECONDS = 0.05
"""From this time of any form on a turn is one timed call: of every form, so that all are measured alike."""
RESAMPLES = 1000
_CONTROL = "\0control"


@dataclass(frozen=True)
class Latency:
    """Latency of one form, in milliseconds, and its speed-up over the baseline with its 95 % interval."""

    form: str
    median_ms: float
    p90_ms: float
    p99_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float

    def beside(self, baseline_ms: float) -> Latency:
        """Return it for a baseline of that median: its own median by the paired speed-up, the rest in proportion.

        Medians of different rounds depend on when they were taken; scaled to one baseline, they can be compared.
        """
        factor = baseline_ms / self.speedup / self.median_ms
        return replace(
            self, median_ms=self.median_ms * factor, p90_ms=self.p90_ms * factor, p99_ms=self.p99_ms * factor
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `lathe.type.v1.LatencyMeasurement`."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class ProfileReport:
    """Latencies of all forms, the baseline first, and of the baseline against itself."""

    forms: tuple[Latency, ...]
    control: Latency
    rounds: int
    threads: int
    batch_size: int
    hardware: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `lathe.type.v1.ProfileReport`."""
        return {
            "forms": [form.to_dict() for form in self.forms],
            "control": self.control.to_dict(),
            "rounds": self.rounds,
            "threads": self.threads,
            "batch_size": self.batch_size,
            "hardware": self.hardware,
            "conclusions": {form.form: self.conclusion(form) for form in self.forms[1:]},
        }

    @property
    def noise(self) -> float:
        """How many times faster or slower the baseline may look than itself: what a win has to exceed."""
        return max(self.control.speedup_high, 1 / self.control.speedup_low, 1.0)

    def conclusion(self, form: Latency) -> str:
        """Return in words whether a form is faster than the baseline, slower, or neither beyond noise."""
        noise = self.noise
        if form.speedup_low > noise:
            return f"{form.speedup:.2f}x faster than {self.forms[0].form}"
        if form.speedup_high < 1 / noise:
            return f"{1 / form.speedup:.2f}x slower than {self.forms[0].form}"
        return f"no win: {form.speedup:.2f}x lies within the noise of {noise:.2f}x"

    def lines(self) -> list[str]:
        """Return the report as lines for people, the baseline first."""
        first, control = self.forms[0], self.control
        head = (
            f"{first.form}: median {first.median_ms:.3f} ms, p99 {first.p99_ms:.3f} ms, the baseline; against itself "
            f"{control.speedup_low:.2f}x to {control.speedup_high:.2f}x in {self.rounds} rounds"
        )
        return [
            head,
            *(
                f"{form.form}: median {form.median_ms:.3f} ms, p99 {form.p99_ms:.3f} ms: {self.conclusion(form)}"
                for form in self.forms[1:]
            ),
        ]


@dataclass
class _Entry:
    call: Call
    turns: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)


def profile(
    forms: Mapping[str, Call],
    *,
    threads: int,
    batch_size: int,
    hardware: str,
    budget_seconds: float = BUDGET_SECONDS,
    seed: int = 0,
) -> ProfileReport:
    """Measure the forms, the first of which is the baseline.

    Args:
        forms: One inference of each form, by name, each already given `threads` threads.
        threads: Threads of every form, for the report.
        batch_size: Batch of every call, for the report.
        hardware: The hardware, for the report.
        budget_seconds: Time to spend; at least `LEAST_ROUNDS` rounds are run, however slow they are.
        seed: Seed of the order within rounds and of the bootstrap.
    """
    baseline = next(iter(forms))
    entries = {name: _Entry(call) for name, call in forms.items()}
    entries[_CONTROL] = _Entry(forms[baseline])
    for entry in entries.values():
        entry.call()
    slow = max(_timed(entry.call) for entry in entries.values()) > SLOW_CALL_SECONDS
    order = random.Random(seed)  # noqa: S311  # an order, not a secret
    rounds, start = 0, time.perf_counter()
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and time.perf_counter() - start < budget_seconds):
        for name in order.sample(list(entries), len(entries)):
            _turn(entries[name], slow=slow)
        rounds += 1
    reference = entries[baseline].turns
    measured = [_latency(name, entry, reference, seed) for name, entry in entries.items() if name != _CONTROL]
    control = _latency(baseline, entries[_CONTROL], reference, seed)
    return ProfileReport(tuple(measured), control, rounds, threads, batch_size, hardware)


def _turn(entry: _Entry, *, slow: bool) -> None:
    if slow:
        times = [_timed(entry.call)]
    else:
        entry.call()
        times = [_timed(entry.call) for _ in range(CALLS_PER_TURN)]
    entry.turns.append(float(np.median(times)))
    entry.calls.extend(times)


def _timed(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _latency(name: str, entry: _Entry, reference: list[float], seed: int) -> Latency:
    return paired_latency(name, entry.calls, reference, entry.turns, seed)


def paired_latency(
    name: str, calls: Sequence[float], reference: Sequence[float], turns: Sequence[float], seed: int
) -> Latency:
    """Return a form's latency, and its speed-up from turns that were taken in the same rounds.

    Args:
        name: Name of the form.
        calls: Seconds of each of its calls.
        reference: Seconds of the baseline's turns, by round.
        turns: Seconds of the form's own turns, in the same rounds.
        seed: Seed of the bootstrap.
    """
    milliseconds = np.asarray(calls) * 1000
    ratios = np.asarray(reference) / np.asarray(turns)
    low, high = median_interval(ratios, seed)
    p90, p99 = np.percentile(milliseconds, (90, 99))
    return Latency(name, float(np.median(milliseconds)), float(p90), float(p99), float(np.median(ratios)), low, high)


def median_interval(values: Array, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the median of some values."""
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)
