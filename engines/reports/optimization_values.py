"""Reads the fields of a `lathe.optimizer.v1.OptimizationResult` in its JSON form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from engines.reports import text
from engines.reports.text import as_number

Candidate = Mapping[str, Any]

_SMALLER = 0.98
"""Largest part of the source's size at which a form is called smaller."""


def numbered(result: Mapping[str, Any]) -> list[tuple[int, Candidate]]:
    """Return the candidates with their numbers in the table and the plots: in the order of the result, from 1."""
    return list(enumerate(result.get("candidates", []), 1))


def recommended(result: Mapping[str, Any]) -> Candidate | None:
    """Return the recommended candidate; None if there is none."""
    return next((entry for entry in result.get("candidates", []) if entry.get("recommended")), None)


def median_ms(entry: Candidate) -> float:
    """Return the median latency in milliseconds; NaN if it was not measured."""
    return as_number((entry.get("latency") or {}).get("median_ms"))


def cosine(entry: Candidate) -> float:
    """Return the lowest cosine over the outputs; NaN if parity was not measured."""
    outputs: Sequence[Mapping[str, Any]] = (entry.get("parity") or {}).get("outputs", [])
    return min((as_number(output.get("cosine")) for output in outputs), default=math.nan)


def verdict(entry: Candidate) -> str:
    """Return the verdict of a form; empty if parity was not measured."""
    return str((entry.get("parity") or {}).get("verdict", ""))


def size_bytes(entry: Candidate) -> float:
    """Return the size on disk in bytes; NaN if nothing was built."""
    return _positive(entry.get("size_bytes"))


def memory_bytes(entry: Candidate) -> float:
    """Return the largest resident memory in bytes; NaN if it was not measured."""
    return _positive(entry.get("memory_bytes"))


def baseline_name(result: Mapping[str, Any]) -> str:
    """Return the name of the source form, which everything is measured against; empty if nothing was measured."""
    forms = (result.get("profile") or {}).get("forms", [])
    return str(forms[0]["form"]) if forms else ""


def size_in_words(result: Mapping[str, Any]) -> str:
    """Return the sizes of the recommended form and the source in a sentence; empty if the form is not smaller."""
    chosen = [entry for entry in result.get("candidates", []) if entry.get("recommended")]
    base = baseline_name(result)
    source = next((entry for entry in result.get("candidates", []) if entry.get("form") == base), None)
    if len(chosen) != 1 or source is None or not size_bytes(chosen[0]) < _SMALLER * size_bytes(source):
        return ""
    return f"Its files take {text.size(size_bytes(chosen[0]))} instead of {text.size(size_bytes(source))}."


def outcome(entry: Candidate, baseline: str) -> tuple[str, str]:
    """Return the outcome of a candidate in a word, and the reason in a sentence."""
    failure = entry.get("failure") or {}
    if entry.get("recommended"):
        return "recommended", str(entry.get("note", ""))
    if failure:
        return "failed", str(failure.get("message") or failure.get("reason", ""))
    if entry.get("form") == baseline:
        return "the source", str(entry.get("note", ""))
    if entry.get("pareto"):
        return "Pareto", str(entry.get("note", ""))
    note = str(entry.get("note", ""))
    return ("left out" if note else "measured"), note


def _positive(value: Any) -> float:
    """Return a number above 0, NaN for any other: protobuf writes what was not measured as 0."""
    number = as_number(value)
    return number if number > 0 else math.nan
