"""INT8 forms of an optimization: every way to quantize for every runtime is an ordinary candidate of its search."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from engines.quantization.recipes import (
    Recipe,
    kept_recipe,
    open_settings,
    promising_recipes,
    wider_recipes,
)
from engines.runtimes.form import OPEN_QUANTIZER, FormSpec


@dataclass(frozen=True)
class Recipes:
    """The recipes of the INT8 forms of one component.

    Attributes:
        first: The recipes for candidates that name no quantizer, by runtime, the most promising first.
        wider: The recipes for runtimes in which nothing else holds.
    """

    first: Sequence[Recipe]
    wider: Sequence[Recipe]

    @property
    def all(self) -> list[Recipe]:
        """Every recipe."""
        return [*self.first, *self.wider]

    @property
    def otherwise(self) -> list[FormSpec]:
        """The forms of `wider`."""
        return [recipe.spec for recipe in self.wider]

    def put_into(self, specs: Sequence[FormSpec]) -> list[FormSpec]:
        """Return candidates in which the first that names no quantizer stands for every recipe of its runtime.

        Runtimes take turns. Later ones of a runtime, which differ by knobs, keep `OPEN_QUANTIZER`: the search gives
        them the quantizer that proved best.
        """
        first: dict[str, FormSpec] = {}
        for spec in specs:
            if spec.quantizer == OPEN_QUANTIZER:
                first.setdefault(spec.runtime, spec)
        made = list(self._in_turns(first))
        found: list[FormSpec] = []
        for spec in specs:
            if spec in first.values():
                found += made
                made = []
            else:
                found.append(spec)
        return found

    def _in_turns(self, first: dict[str, FormSpec]) -> Iterator[FormSpec]:
        lines = (
            [replace(spec, quantizer=recipe.name) for recipe in self.first if recipe.settings.runtime == runtime]
            for runtime, spec in first.items()
        )
        for turn in zip_longest(*lines):
            yield from (spec for spec in turn if spec is not None)


def offered_recipes(
    model: Any, specs: Sequence[FormSpec], *, is_quantized: bool, function: bool = False, halves: Collection[str] = ()
) -> Recipes:
    """Return the recipes of a component's INT8 candidates.

    Args:
        model: Its graph.
        specs: The candidates.
        is_quantized: Whether the graph carries quantization, which is kept.
        function: Whether the source is a function of TensorFlow.
        halves: Runtimes whose forms compute FP16 beside the integers.
    """
    runtimes = dict.fromkeys(spec.runtime for spec in specs if spec.quantizer)
    settings = {
        runtime: replace(open_settings(model, runtime, function=function), halves=runtime in halves)
        for runtime in runtimes
    }
    if is_quantized:
        return Recipes([kept_recipe(each) for each in settings.values()], ())
    return Recipes(
        [recipe for each in settings.values() for recipe in promising_recipes(each)],
        [recipe for each in settings.values() for recipe in wider_recipes(each)],
    )
