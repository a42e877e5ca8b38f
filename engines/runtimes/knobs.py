"""Knobs: settings of runtimes that differ from their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import opened
from engines.spec.template import Component


@dataclass(frozen=True)
class Knob:
    """A setting of a runtime that differs from its default.

    Attributes:
        name: Name in forms and records.
        good_for: When it helps, for people.
        values: Its values, each with its name in reports; empty if it takes any whole number above 0, or what
            `objection` lets pass.
        quantizers: The quantizers of its values, by their names in manifests; without values that quantize nothing.
        objection: Returns what is wrong with a value that is free text, no whole sentence; empty if nothing is.
        mismatch: Returns what is wrong with a value for a component, as far as its inputs are declared, no whole
            sentence; empty if nothing is.
    """

    name: str
    good_for: str
    values: Mapping[str, str] = field(default_factory=dict)
    quantizers: Mapping[str, str] = field(default_factory=dict)
    objection: Callable[[str], str] | None = None
    mismatch: Callable[[str, Component], str] | None = None

    def in_words(self, value: str) -> str:
        """Return the name in reports of the knob with a value: `2 streams`, `fused attention`."""
        if self.values or self.objection:
            return self.values.get(value, f"{self.name} {value}")
        return f"{value} {self.name.removesuffix('s') if value == '1' else self.name}"


THREADS = Knob(opened.THREADS, "tiny models, whose work is less than what it costs to share it out")
ALLOCATOR = Knob(
    opened.ALLOCATOR, "large batches: freed memory is not mapped anew in each call", {"tuned": "freed memory kept"}
)
STREAMS = Knob("streams", "throughput: several calls are computed at the same time")


def check_knobs(title: str, knobs: Mapping[str, str], offered: Sequence[Knob]) -> None:
    """Refuse a knob that a runtime does not have, or a value that it does not take.

    Raises:
        EngineFailure: INVALID_SPEC that lists what there is.
    """
    for name, value in knobs.items():
        if wrong := objection(title, name, value, offered):
            message, fix = wrong
            raise EngineFailure(FailureReason.INVALID_SPEC, f"{message}.", suggested_fix=fix)


def objection(title: str, name: str, value: str, offered: Sequence[Knob]) -> tuple[str, str] | None:
    """Return what is wrong with the value of a knob, no whole sentence, and what to do; None if nothing is."""
    knob = next((knob for knob in offered if knob.name == name), None)
    if knob is None:
        having = ", ".join(sorted(knob.name for knob in offered)) or "none"
        return f"{title} has no knob '{name}'; it has {having}", "; ".join(
            f"{knob.name} is for {knob.good_for}" for knob in offered
        )
    if knob.values and value not in knob.values:
        return f"{title}'s knob '{name}' takes {' or '.join(knob.values)}, not '{value}'", ""
    if knob.objection:
        words = knob.objection(value)
        return (f"{title}'s knob '{name}' cannot be '{value}': {words}", "") if words else None
    if not knob.values and not (value.isdecimal() and int(value) > 0):
        return f"{title}'s knob '{name}' takes a whole number above 0, not '{value}'", ""
    return None


def shared_options(knobs: Mapping[str, str]) -> dict[str, str]:
    """Return the options of the knobs that every runtime takes alike."""
    return {knob.name: knobs[knob.name] for knob in (THREADS, ALLOCATOR) if knob.name in knobs}
