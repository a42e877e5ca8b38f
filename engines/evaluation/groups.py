"""Parts of the data with figures of their own: all data, and a slice per value of each requested attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason

MOST_VALUES = 50
"""Most slices of one attribute: the values with the most samples."""


@dataclass(frozen=True)
class Group:
    """A part of the samples, such as `scene=night`, or all with an empty name; `members` are ascending positions."""

    name: str
    members: NDArray[np.int64]


class Attributed(Protocol):
    """Anything with attributes: an item, or the prediction of one."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """Values by name."""
        ...


def groups(items: Sequence[Attributed], slices: Sequence[str]) -> tuple[list[Group], list[str]]:
    """Return a group of all data, then the slices by attribute and value, and warnings about what was left out.

    Args:
        items: The samples, in their order.
        slices: Attributes to slice by.

    Raises:
        EngineFailure: INVALID_SPEC for an attribute that no item has, naming the existing ones.
    """
    found = [Group("", np.arange(len(items)))]
    warnings: list[str] = []
    for attribute in slices:
        members: dict[str, list[int]] = {}
        for position, item in enumerate(items):
            if attribute in item.attributes:
                members.setdefault(item.attributes[attribute], []).append(position)
        if not members:
            known = sorted({name for item in items for name in item.attributes})
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"The data has no attribute '{attribute}' to slice by. Its attributes: {', '.join(known) or 'none'}.",
            )
        values = sorted(members, key=lambda value: (-len(members[value]), value))
        if len(values) > MOST_VALUES:
            most = f"only the {MOST_VALUES} with the most samples are used"
            warnings.append(f"The attribute '{attribute}' has {len(values)} values; {most}.")
        unknown = len(items) - sum(map(len, members.values()))
        if unknown:
            warnings.append(
                f"{unknown} of {len(items)} samples have no attribute '{attribute}' and are in none of its slices."
            )
        found += [Group(f"{attribute}={value}", np.array(members[value])) for value in sorted(values[:MOST_VALUES])]
    return found, warnings
