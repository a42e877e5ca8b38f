"""Knobs: settings of runtimes that differ from their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import opened


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
    """

    name: str
    good_for: str
    values: Mapping[str, str] = field(default_factory=dict)
    quantizers: Mapping[str, str] = field(default_factory=dict)
    objection: Callable[[str], str] | None = None

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
    by_name = {knob.name: knob for knob in offered}
    for name, value in knobs.items():
        knob = by_name.get(name)
        if knob is None:
            raise _invalid(
                f"{title} has no knob '{name}'; it has {', '.join(sorted(by_name)) or 'none'}.",
                "; ".join(f"{knob.name} is for {knob.good_for}" for knob in offered),
            )
        if knob.values and value not in knob.values:
            raise _invalid(f"{title}'s knob '{name}' takes {' or '.join(knob.values)}, not '{value}'.")
        if knob.objection:
            if objection := knob.objection(value):
                raise _invalid(f"{title}'s knob '{name}' cannot be '{value}': {objection}.")
        elif not knob.values and not (value.isdecimal() and int(value) > 0):
            raise _invalid(f"{title}'s knob '{name}' takes a whole number above 0, not '{value}'.")


def shared_options(knobs: Mapping[str, str]) -> dict[str, str]:
    """Return the options of the knobs that every runtime takes alike."""
    return {knob.name: knobs[knob.name] for knob in (THREADS, ALLOCATOR) if knob.name in knobs}


def _invalid(message: str, fix: str = "") -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message, suggested_fix=fix)
