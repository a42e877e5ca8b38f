"""The truth of an item in numbers of the model's classes; values that are not a class are counted, not guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engines.datasets.items import LABEL, Item
from engines.evaluation.predictions import TrueBox
from engines.failures import EngineFailure, FailureReason, count

_SHOWN = 5


class ClassTruth:
    """Classes of items by classification task.

    A task uses the dataset's key of the same name. If the model has one task and the data has one key, their names may
    differ.

    Args:
        items: All items.
        taxonomies: `{"task", "classes"}` of each task.
        tasks: Tasks to evaluate; all if empty.

    Raises:
        EngineFailure: INVALID_SPEC for a task that the model does not have.
    """

    def __init__(self, items: Sequence[Item], taxonomies: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> None:
        known = [entry["task"] for entry in taxonomies]
        check_tasks(tasks, known)
        self.classes: dict[str, tuple[str, ...]] = {
            entry["task"]: tuple(entry["classes"]) for entry in taxonomies if not tasks or entry["task"] in tasks
        }
        self._numbers = {task: {name: i for i, name in enumerate(names)} for task, names in self.classes.items()}
        keys = {key for item in items for key in item.classifications}
        self._keys = {task: task for task in self.classes if task in keys}
        if not self._keys and len(known) == len(keys) == 1:
            self._keys = dict(zip(self.classes, keys, strict=True))
        self._key_names = sorted(keys)
        self._unmapped: dict[str, Counter[str]] = {task: Counter() for task in self.classes}
        self._without: Counter[str] = Counter()

    def of(self, item: Item) -> dict[str, int]:
        """Return the number of the true class by task; -1 if the item has none or an unknown one."""
        found = {}
        for task, numbers in self._numbers.items():
            value = item.classifications.get(self._keys.get(task, ""))
            found[task] = -1 if value is None else numbers.get(value, -1)
            if value is None:
                self._without[task] += 1
            elif value not in numbers:
                self._unmapped[task][value] += 1
        return found

    def warnings(self) -> list[str]:
        """Return warnings about values that could not be evaluated so far."""
        lines = []
        for task, names in self.classes.items():
            if not self._key_names:
                continue
            if task not in self._keys:
                keys = ", ".join(self._key_names)
                lines.append(f"The task '{task}' is not evaluated, because the data only has classes for {keys}.")
            elif self._without[task]:
                lines.append(
                    f"{count(self._without[task], 'sample has', 'samples have')} no class for the task '{task}' and "
                    f"{'does' if self._without[task] == 1 else 'do'} not count for it."
                )
            if self._unmapped[task]:
                lines.append(_unmapped(self._unmapped[task], f"samples of the task '{task}'", names))
        return lines


class BoxTruth:
    """True boxes of items, with numbers of a detector's classes."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._numbers = {name: number for number, name in enumerate(classes)}
        self._unmapped: Counter[str] = Counter()

    def of(self, item: Item) -> tuple[TrueBox, ...]:
        """Return the item's boxes whose label is a class; `area` is the box's if the object's is unknown."""
        found = []
        for box in item.boxes:
            number = self._numbers.get(box.label)
            if number is None:
                self._unmapped[box.label] += 1
                continue
            area = box.width * box.height if box.area is None else box.area
            found.append(TrueBox(number, box.x, box.y, box.width, box.height, area, box.crowd))
        return tuple(found)

    def warnings(self) -> list[str]:
        """Return warnings about values that could not be evaluated so far."""
        return [_unmapped(self._unmapped, "boxes", self._classes)] if self._unmapped else []


def check_tasks(asked: Sequence[str], known: Sequence[str]) -> None:
    """Reject tasks that the model does not have.

    Raises:
        EngineFailure: INVALID_SPEC naming the task and the existing ones.
    """
    for task in asked:
        if task not in known:
            message = f"The model has no classification task '{task}'. Its tasks are: {', '.join(known) or 'none'}."
            raise EngineFailure(FailureReason.INVALID_SPEC, message)


def _unmapped(values: Counter[str], what: str, classes: Sequence[str]) -> str:
    shown = ", ".join(f"{value} ({count})" for value, count in values.most_common(_SHOWN))
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    names = ", ".join(classes[:_SHOWN]) + (", …" if len(classes) > _SHOWN else "")
    key = LABEL if what == "boxes" else "class"
    return (
        f"{values.total()} {what} were left out, because their {key} is not among the model's {len(classes)} classes "
        f"({names}): {shown}{more}."
    )
