"""Steps of a derivation: each turns a stream of items into another, and rejects names that no item has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from engines.datasets.items import LABEL, Item
from engines.failures import EngineFailure, FailureReason

Stream = Callable[[], Iterator[Item]]
"""Returns a new iterator over all items at each call."""


class Step(Protocol):
    """One step; `name` is its field in a `DerivationStep`."""

    name: str

    def apply(self, items: Stream) -> Iterator[Item]:
        """Yield the items after the step."""
        ...


class MergeClasses:
    """Merges several classes of a key into one."""

    name = "merge_classes"

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take `key`, `classes` and `into`."""
        self._key, self._classes = str(values["key"]), _names(values, "classes")
        self._into = str(values["into"])

    def apply(self, items: Stream) -> Iterator[Item]:
        """Yield the items with their classes renamed."""
        seen = _Seen(self._key, self._classes, "classes")
        for item in items():
            seen.add(_classes_of(item, self._key))
            yield self._renamed(item)
        seen.require_all()

    def _renamed(self, item: Item) -> Item:
        if self._key == LABEL:
            boxes = (replace(box, label=self._into) if box.label in self._classes else box for box in item.boxes)
            return replace(item, boxes=tuple(boxes))
        if item.classifications.get(self._key) in self._classes:
            return replace(item, classifications={**item.classifications, self._key: self._into})
        return item


class DropClasses:
    """Drops classes of a key, and items that thereby lose their last class; images that lose all their boxes stay."""

    name = "drop_classes"

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take `key` and `classes`."""
        self._key, self._classes = str(values["key"]), _names(values, "classes")

    def apply(self, items: Stream) -> Iterator[Item]:
        """Yield the remaining items."""
        seen = _Seen(self._key, self._classes, "classes")
        annotated = False
        for item in items():
            seen.add(_classes_of(item, self._key))
            left = self._left(item)
            annotated |= bool(left.classifications or left.boxes)
            # A detector should find nothing in an image whose boxes were dropped. Without such images it looks better.
            if left is item or left.classifications or item.boxes:
                yield left
        seen.require_all()
        if not annotated:
            raise _bad(f"Dropping these classes of '{self._key}' leaves no item with an annotation.")

    def _left(self, item: Item) -> Item:
        if not any(value in self._classes for value in _classes_of(item, self._key)):
            return item
        if self._key == LABEL:
            return replace(item, boxes=tuple(box for box in item.boxes if box.label not in self._classes))
        return replace(item, classifications={k: v for k, v in item.classifications.items() if k != self._key})


class FilterItems:
    """Keeps or drops items by a class or an attribute."""

    name = "filter"

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take `key`, `values` and `exclude`."""
        self._key, self._values = str(values["key"]), _names(values, "values")
        self._exclude = bool(values.get("exclude", False))

    def apply(self, items: Stream) -> Iterator[Item]:
        """Yield the items that stay."""
        seen = _Seen(self._key, self._values, "values")
        for item in items():
            values = _values_of(item, self._key)
            seen.add(values)
            if any(value in self._values for value in values) != self._exclude:
                yield item
        seen.require_all()


class SampleItems:
    """Keeps a seeded random sample, in the order of the items; on request stratified by the values of a key."""

    name = "sample"

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take `count`, `seed` and `stratify_by`."""
        self._count, self._seed = int(values.get("count", 0)), int(values.get("seed", 0))
        self._key = str(values.get("stratify_by", ""))
        if self._count < 1:
            raise _bad(f"The number of items to sample is {self._count}; it must be at least 1.")
        if self._key == LABEL:
            raise _bad(
                f"Items cannot be stratified by '{LABEL}', because an item can have several boxes. Use a "
                "classification key or an attribute."
            )

    def apply(self, items: Stream) -> Iterator[Item]:
        """Yield the sample."""
        strata: dict[str | None, int] = {}
        keys: Counter[str] = Counter()
        places = []
        for item in items():
            value = next(iter(_values_of(item, self._key)), None) if self._key else None
            places.append(strata.setdefault(value, len(strata)))
            if self._key and value is None:
                keys.update(_keys(item))
        if self._key and places and strata.keys() == {None}:
            raise _unknown_key(self._key, keys)
        chosen = stratified(np.array(places, np.int64), self._count, self._seed)
        return (item for item, kept in zip(items(), chosen, strict=True) if kept)


def stratified(
    strata: np.ndarray[Any, np.dtype[np.int64]], count: int, seed: int
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which items to keep, so that `count` are kept and each stratum keeps its proportion.

    Shares are rounded down, and the rest goes to the strata with the largest remainders (Hamilton's method), ties to
    the lower number.

    Args:
        strata: Stratum of each item: numbers from 0 on.
        count: Number of items to keep; all if there are fewer.
        seed: Seed of the choice.
    """
    kept = np.zeros(len(strata), np.bool_)
    if count >= len(strata):
        return ~kept
    sizes = np.bincount(strata)
    # Integers throughout, so that remainders compare exactly.
    quotas, remainders = np.divmod(sizes * count, len(strata))
    quotas[np.argsort(-remainders, kind="stable")[: count - int(quotas.sum())]] += 1
    rng = np.random.default_rng(seed)
    members = np.split(np.argsort(strata, kind="stable"), np.cumsum(sizes)[:-1])
    for inside, quota in zip(members, quotas, strict=True):
        kept[rng.choice(inside, int(quota), replace=False, shuffle=False)] = True
    return kept


class _Seen:
    """Collects the values of a key, to reject names that no item has once all items were seen."""

    def __init__(self, key: str, wanted: frozenset[str], kind: str) -> None:
        self._key, self._wanted, self._kind = key, wanted, kind
        self._values: set[str] = set()

    def add(self, values: Iterable[str]) -> None:
        self._values.update(values)

    def require_all(self) -> None:
        missing = sorted(self._wanted - self._values)
        if missing:
            if not self._values:
                raise _bad(f"No item has the key '{self._key}'.")
            there = ", ".join(sorted(self._values)[:50])
            raise _bad(
                f"No item has the value '{missing[0]}' for the key '{self._key}'. Its {self._kind} are: {there}."
            )


def _classes_of(item: Item, key: str) -> tuple[str, ...]:
    if key == LABEL:
        return tuple(box.label for box in item.boxes)
    value = item.classifications.get(key)
    return () if value is None else (value,)


def _values_of(item: Item, key: str) -> tuple[str, ...]:
    value = item.attributes.get(key)
    return _classes_of(item, key) + (() if value is None else (value,))


def _keys(item: Item) -> set[str]:
    return {*item.classifications, *item.attributes}


def _names(values: Mapping[str, Any], field: str) -> frozenset[str]:
    names = frozenset(map(str, values.get(field) or ()))
    if not names:
        raise _bad(f"The step names no {field}.")
    return names


def _unknown_key(key: str, keys: Counter[str]) -> EngineFailure:
    return _bad(f"No item has the key '{key}'. The keys are: {', '.join(sorted(keys)) or 'none'}.")


def _bad(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)


STEPS: Mapping[str, Callable[[Mapping[str, Any]], Step]] = {
    "merge_classes": MergeClasses,
    "drop_classes": DropClasses,
    "filter": FilterItems,
    "sample": SampleItems,
}
