"""Checks values of annotation files: boxes, numbers, classes and attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from engines.datasets.found import invalid
from engines.datasets.items import LABEL


def number(value: object, where: str, name: str) -> float:
    """Return a finite number; raises INVALID_DATA that names the place if it is not one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        invalid(f"{where}: '{name}' is {_shown(value)}, not a number.")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        invalid(f"{where}: '{name}' is {found}; numbers must be finite.")
    return found


def size(values: Mapping[str, object]) -> tuple[int, int] | None:
    """Return the annotated `width` and `height` of an image in pixels; None if they are missing or invalid."""
    sides = [values.get("width"), values.get("height")]
    whole = [int(side) for side in sides if isinstance(side, int | float) and 1 <= side < 2**31 and side == int(side)]
    return (whole[0], whole[1]) if len(whole) == 2 else None


def area(value: object, where: str) -> float | None:
    """Return the pixels of an object; None if unknown, which some tools write as a negative number."""
    found = None if value is None else number(value, where, "area")
    return None if found is None or found < 0 else found


def flag(value: object, where: str, name: str) -> bool:
    """Return a boolean, which may be written 0 or 1; raises INVALID_DATA for anything else, such as the text "0"."""
    if value is not None and not (isinstance(value, int | float) and value in {0, 1}):
        invalid(f"{where}: '{name}' is {_shown(value)}, not true or false.")
    return bool(value)


def text(value: object, where: str, name: str) -> str:
    """Return a class or an attribute as text; numbers and booleans are written out.

    Raises:
        EngineFailure: INVALID_DATA if it is a list, an object or not finite.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, float):
        invalid(f"{where}: '{name}' is {_shown(value)}; a class or an attribute must be text, a number or a boolean.")
    found = number(value, where, name)
    return str(int(found)) if found.is_integer() else repr(found)


def texts(value: object, where: str, name: str) -> dict[str, str]:
    """Return an object of classes or attributes, without null values."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        invalid(f"{where}: '{name}' is {_shown(value)}, not an object.")
    return {str(key): text(entry, where, f"{name}.{key}") for key, entry in value.items() if entry is not None}


def classifications(value: object, where: str) -> dict[str, str]:
    """Return classes by key; raises INVALID_DATA if a key is the one reserved for boxes."""
    found = texts(value, where, "classifications")
    if LABEL in found:
        invalid(
            f"{where}: the classification key '{LABEL}' is reserved for boxes.",
            fix="Give the classification another name, for example 'class'.",
        )
    return found


def _shown(value: object) -> str:
    shown = "null" if value is None else repr(value)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"
