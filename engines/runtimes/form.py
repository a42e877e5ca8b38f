"""A form before and after it is built.

FormSpec ──Maker──▶ Made (files, options) ──FormProcess──▶ outputs, times, memory
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engines.runtimes import runtimes
from engines.runtimes.protocol import BuiltForm

OPEN_QUANTIZER = "quantized"
"""Stands for a quantizer that the search has yet to choose."""
_PRECISIONS_BY_COST = ("FP32", "BF16", "FP16", "INT8", "INT4")
"""From the precision that changes least of the source to the one that changes most."""


@dataclass(frozen=True)
class FormSpec:
    """One candidate.

    Attributes:
        runtime: Name in the device catalog.
        precision: Arithmetic, as the API names it.
        quantizer: Its quantizer, by the name of `engines.quantization`, or `OPEN_QUANTIZER`; empty if it has none.
        reader: `pytorch` if a runtime that prefers the graph reads the torch network itself, else empty.
        knobs: Names and values, sorted, of what differs from the runtime's default.
        kept: Nodes that the quantizer leaves in floating point.
    """

    runtime: str
    precision: str
    quantizer: str = ""
    reader: str = ""
    knobs: tuple[tuple[str, str], ...] = ()
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Sort the knobs, so that equal forms are equal."""
        object.__setattr__(self, "knobs", tuple(sorted((str(key), str(value)) for key, value in self.knobs)))
        object.__setattr__(self, "kept", tuple(sorted(self.kept)))

    @property
    def name(self) -> str:
        """Name in reports: `openvino BF16, 2 streams`."""
        parts = [f"{self.runtime} {self.precision}"]
        if self.quantized_by and self.quantized_by != self.precision:
            parts.append(self.quantized_by)
        room = runtimes().get(self.runtime)
        words = {knob.name: knob.in_words for knob in room.knobs} if room else {}
        stated = [("reader", self.reader)] if self.reader else []
        parts += [words[key](value) if key in words else f"{key} {value}" for key, value in [*stated, *self.knobs]]
        return ", ".join(parts)

    @property
    def quantized_by(self) -> str:
        """Its quantizer in words; empty if it has none or none is chosen yet."""
        if not self.quantizer or self.quantizer == OPEN_QUANTIZER:
            return ""
        nodes = f"{len(self.kept)} node{'' if len(self.kept) == 1 else 's'} in floating point"
        return f"{self.quantizer}, {nodes}" if self.kept else self.quantizer

    @property
    def simplicity(self) -> tuple[int, int, str]:
        """Sorts the simpler form first: the one with fewer settings; then the wider precision."""
        settings = len(self.knobs) + bool(self.reader) + 2 * bool(self.quantizer) + bool(self.kept)
        rank = (
            _PRECISIONS_BY_COST.index(self.precision)
            if self.precision in _PRECISIONS_BY_COST
            else len(_PRECISIONS_BY_COST)
        )
        return settings, rank, self.name

    def knob(self, name: str, default: str = "") -> str:
        """Return the value of a knob; the default if it is not set."""
        return dict(self.knobs).get(name, default)

    @property
    def is_default(self) -> bool:
        """Whether it is a runtime's default in its precision: nothing is set, and nothing is quantized."""
        return not (self.knobs or self.reader or self.quantizer)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "runtime": self.runtime,
            "precision": self.precision,
            "quantizer": self.quantizer,
            "reader": self.reader,
            "knobs": dict(self.knobs),
            "kept": list(self.kept),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the spec that `to_dict` wrote."""
        return cls(
            values["runtime"],
            values["precision"],
            values.get("quantizer", ""),
            values.get("reader", ""),
            tuple(dict(values.get("knobs", {})).items()),
            tuple(values.get("kept", ())),
        )


@dataclass(frozen=True)
class Made:
    """A form that was built, with all that another process needs to open it.

    Attributes:
        spec: The spec that it was built by.
        form: The built form; its options carry the knobs.
    """

    spec: FormSpec
    form: BuiltForm

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "spec": self.spec.to_dict(),
            "form": {
                "runtime": self.form.runtime,
                "device": self.form.device,
                "precision": self.form.precision,
                "directory": str(self.form.directory),
                "files": list(self.form.files),
                "outputs": list(self.form.outputs),
                "options": dict(self.form.options),
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote."""
        form = values["form"]
        built = BuiltForm(
            form["runtime"],
            form["device"],
            form["precision"],
            Path(form["directory"]),
            tuple(form["files"]),
            tuple(form["outputs"]),
            dict(form["options"]),
        )
        return cls(FormSpec.from_dict(values["spec"]), built)
