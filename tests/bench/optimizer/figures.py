"""What the figures of a contest say about Lathe: ratios to the best default, means over models. Arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.spec.tolerances import TOLERANCES, Measure
from tests.bench.optimizer.contest import CONTROL, Standing
from tests.bench.optimizer.ours import GOALS, LEAST_COSINE, Search
from tests.bench.optimizer.peers import BASELINE

OURS = "Lathe "
"""A goal's name after it is the name of what Lathe chose for that goal."""
_RANK = {"FP32": 0, "BF16": 1, "FP16": 1, "INT8": 2}


@dataclass(frozen=True)
class Versus:
    """What Lathe chose for a goal, beside the best default that the goal allows."""

    goal: str
    chosen: Standing
    default: Standing
    ratio: float
    low: float
    high: float
    noise: float

    @property
    def verdict(self) -> str:
        """Whether it `wins` or `loses` by more than noise, or `ties`."""
        if self.low > self.noise:
            return "wins"
        return "loses" if self.high < 1 / self.noise else "ties"


@dataclass
class Outcome:
    """All that was found out about one model.

    Attributes:
        model: Its name.
        title: Its name in tables.
        counted: Whether the means count it.
        tolerance: Largest relative error of a form in FP32.
        standings: Forms by name, controls included.
        searches: Lathe's searches by goal.
    """

    model: str
    title: str
    counted: bool
    tolerance: float
    standings: dict[str, Standing] = field(default_factory=dict)
    searches: dict[str, Search] = field(default_factory=dict)

    def holds(self, standing: Standing) -> bool:
        """Whether a form was timed, and is within Lathe's own limit for its precision: peers are held to it, too."""
        if not standing.turns:
            return False
        allowed = TOLERANCES[standing.precision]
        if allowed.measure is Measure.COSINE:
            return 1 - standing.cosine <= allowed.limit
        return standing.max_rel <= (self.tolerance if standing.precision == "FP32" else allowed.limit)

    def defaults(self, goal: str) -> list[Standing]:
        """Return what users get without Lathe at a goal's precision or a wider one, as far as it holds."""
        return [
            standing
            for name, standing in self.standings.items()
            if not name.startswith(OURS) and not name.endswith(CONTROL)
            if _RANK[standing.precision] <= _RANK[goal] and self.holds(standing)
        ]

    def chosen(self, goal: str) -> Standing | None:
        """Return what Lathe chose for a goal; None if it gave nothing that holds."""
        standing = self.standings.get(OURS + goal)
        return standing if standing and self.holds(standing) else None

    def versus(self, goal: str) -> Versus | None:
        """Return Lathe's choice beside the best default; None if either is missing."""
        chosen, defaults = self.chosen(goal), self.defaults(goal)
        if chosen is None or not defaults:
            return None
        best = min(defaults, key=lambda standing: standing.median_ms)
        return Versus(goal, chosen, best, *chosen.faster_than(best), self.noise)

    @property
    def noise(self) -> float:
        """How many times faster or slower than itself a form may look: the last control's interval; 1 without one."""
        controls = [each for name, each in self.standings.items() if name.endswith(CONTROL) and each.turns]
        if not controls:
            return 1.0
        first = self.standings[controls[-1].name.removesuffix(CONTROL)]
        _, low, high = controls[-1].faster_than(first)
        return 1.0 if math.isnan(low) else max(high, 1 / low, 1.0)

    def over_baseline(self, goal: str) -> float:
        """Return how many times faster than frozen TorchScript Lathe's choice is; NaN if there is none."""
        chosen, baseline = self.chosen(goal), self.standings.get(BASELINE)
        return chosen.faster_than(baseline)[0] if chosen and baseline else math.nan

    def best_default_over_baseline(self, goal: str) -> float:
        """Return the same of the best default."""
        defaults, baseline = self.defaults(goal), self.standings.get(BASELINE)
        if not defaults or baseline is None:
            return math.nan
        return min(defaults, key=lambda standing: standing.median_ms).faster_than(baseline)[0]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, from which `from_dict` makes it again."""
        return {
            "model": self.model,
            "title": self.title,
            "counted": self.counted,
            "tolerance": self.tolerance,
            "standings": [standing.to_dict() for standing in self.standings.values()],
            "searches": [search.to_dict() for search in self.searches.values()],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """Return what `to_dict` wrote; what Lathe made is not there again."""
        standings = [
            Standing(**{key: value for key, value in row.items() if key != "median_ms"}) for row in values["standings"]
        ]
        searches = [Search(**row) for row in values["searches"]]
        return cls(
            values["model"],
            values["title"],
            values["counted"],
            values["tolerance"],
            {standing.name: standing for standing in standings},
            {search.goal: search for search in searches},
        )


def geomean(values: Iterable[float]) -> float:
    """Return the geometric mean of the values that are numbers; NaN of none."""
    logs = [math.log(value) for value in values if not math.isnan(value)]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def summary(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Return, by goal, the means over the models that count.

    `models` is how many have a choice of Lathe's that holds, `of` how many count; `versus` the mean of choice over best
    default and `worst` the least of it; `speedup` and `default_speedup` the means over frozen TorchScript; `int8` the
    models that have a form in INT8 with a cosine of at least 0.99.
    """
    counted = [outcome for outcome in outcomes if outcome.counted]
    found: dict[str, dict[str, Any]] = {}
    for goal in GOALS:
        beside = [versus for outcome in counted if (versus := outcome.versus(goal))]
        ratios = [versus.ratio for versus in beside]
        found[goal] = {
            "models": len(beside),
            "of": len(counted),
            "versus": geomean(ratios),
            "worst": min(ratios, default=math.nan),
            "speedup": geomean(outcome.over_baseline(goal) for outcome in counted),
            "default_speedup": geomean(outcome.best_default_over_baseline(goal) for outcome in counted),
        }
    int8 = [outcome.searches["INT8"].best_int8_cosine for outcome in counted if "INT8" in outcome.searches]
    found["INT8"]["int8"] = sum(cosine >= LEAST_COSINE for cosine in int8)
    return found
