"""Accuracy control: leaves the nodes that cost most in floating point until a bound holds, and no more than needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

MOST_RUNGS = 16
"""Most forms that are built: enough for the doubling and the way back of a graph of hundreds of nodes."""


class Held(Protocol):
    """A form that was judged."""

    @property
    def holds(self) -> bool:
        """Whether the bound holds."""
        ...


Form = TypeVar("Form", bound=Held)


@dataclass(frozen=True)
class Climb(Generic[Form]):
    """The result of a climb.

    Attributes:
        rungs: Every form that could be judged, in the order of climbing.
        top: The form with the fewest nodes in floating point that holds; None if none does.
    """

    rungs: tuple[Form, ...]
    top: Form | None


def climb(order: Sequence[str], judge: Callable[[Sequence[str]], Form | None], most: int = MOST_RUNGS) -> Climb[Form]:
    """Climb: the first 1, 2, 4, 8… nodes, all but one at the end; then back by halves to the fewest that hold.

    Args:
        order: Nodes, the one that costs most first.
        judge: Returns the form that keeps the given nodes in floating point, judged; None if it cannot be made.
        most: Most forms that are built.
    """
    rungs: list[Form] = []

    def at(count: int) -> Form | None:
        form = judge(order[:count])
        if form is not None:
            rungs.append(form)
        return form

    failing, top = 0, None
    for count in _heights(len(order)):
        if len(rungs) >= most:
            break
        form = at(count)
        if form is not None and form.holds:
            top, holding = form, count
            break
        failing = count
    if top is None:
        return Climb(tuple(rungs), None)
    while holding - failing > 1 and len(rungs) < most:
        middle = (failing + holding) // 2
        form = at(middle)
        if form is not None and form.holds:
            top, holding = form, middle
        else:
            failing = middle
    return Climb(tuple(rungs), top)


def _heights(nodes: int) -> list[int]:
    """Return 1, 2, 4… and all but one, as at least one node has to be quantized."""
    heights = []
    size = 1
    while size < nodes - 1:
        heights.append(size)
        size *= 2
    return [*heights, nodes - 1] if nodes > 1 else heights
