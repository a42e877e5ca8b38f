"""What the search chooses among: a form before it is built, and after.

FormSpec ──Maker──▶ Made (files, options) ──FormProcess──▶ outputs, times, memory
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engines.runtimes.protocol import BuiltForm

_PRECISIONS_BY_COST = ("FP32", "BF16", "FP16", "INT8", "INT4")
"""From what changes least to what changes most of the source."""


@dataclass(frozen=True)
class FormSpec:
    """One candidate.

    Attributes:
        runtime: Name in the device catalog: `onnxruntime`, `openvino`, `inductor`, `torchscript`.
        precision: Arithmetic, as the API names it.
        quantizer: `quantized` where engines.quantization makes it for that runtime, else empty.
        reader: `pytorch` where the runtime reads the torch network itself; empty where it takes the ONNX graph.
        knobs: Names and values, sorted, of what differs from the runtime's default.
    """

    runtime: str
    precision: str
    quantizer: str = ""
    reader: str = ""
    knobs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Sort the knobs, so that equal forms are equal."""
        object.__setattr__(self, "knobs", tuple(sorted((str(key), str(value)) for key, value in self.knobs)))

    @property
    def name(self) -> str:
        """What reports call it: `openvino BF16, 2 streams`."""
        parts = [f"{self.runtime} {self.precision}"]
        if self.reader:
            parts.append("read from PyTorch" if self.reader == "pytorch" else f"{self.reader} reader")
        parts += [_in_words(key, value) for key, value in self.knobs]
        return ", ".join(parts)

    @property
    def simplicity(self) -> tuple[int, int, str]:
        """Sorts the simpler form first: one with less in it that a person has to know; then the wider precision."""
        settings = len(self.knobs) + bool(self.reader) + 2 * bool(self.quantizer)
        rank = (
            _PRECISIONS_BY_COST.index(self.precision)
            if self.precision in _PRECISIONS_BY_COST
            else len(_PRECISIONS_BY_COST)
        )
        return settings, rank, self.name

    def knob(self, name: str, default: str = "") -> str:
        """Return the value of a knob; the default where it is not set."""
        return dict(self.knobs).get(name, default)

    @property
    def is_default(self) -> bool:
        """Whether it is a runtime's own default in its precision: nothing is set, and nothing quantized."""
        return not (self.knobs or self.reader or self.quantizer)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "runtime": self.runtime,
            "precision": self.precision,
            "quantizer": self.quantizer,
            "reader": self.reader,
            "knobs": dict(self.knobs),
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
        )


@dataclass(frozen=True)
class Made:
    """A form that was built, with all that another process needs to open it.

    Attributes:
        spec: What it is.
        form: What the backend built; its options carry the runtime's knobs.
        quantizer: What quantized it, in words; empty where nothing did.
    """

    spec: FormSpec
    form: BuiltForm
    quantizer: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "spec": self.spec.to_dict(),
            "form": {
                "backend": self.form.backend,
                "precision": self.form.precision,
                "directory": str(self.form.directory),
                "files": list(self.form.files),
                "outputs": list(self.form.outputs),
                "options": dict(self.form.options),
            },
            "quantizer": self.quantizer,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote."""
        form = values["form"]
        built = BuiltForm(
            form["backend"],
            form["precision"],
            Path(form["directory"]),
            tuple(form["files"]),
            tuple(form["outputs"]),
            dict(form["options"]),
        )
        return cls(FormSpec.from_dict(values["spec"]), built, values["quantizer"])


_WORDS = {
    ("allocator", "tuned"): "freed memory kept",
    ("binding", "bound"): "pre-bound tensors",
    ("graph", "inference"): "optimized for inference",
    ("graph", "transformer"): "fused attention",
    ("layout", "channels_last"): "channels last",
    ("mode", "eager"): "eager",
    ("weights", "int8"): "8-bit weights",
}
"""What knobs are called whose name and value side by side do not read as words."""


def _in_words(key: str, value: str) -> str:
    if key in {"streams", "threads"}:
        return f"{value} {key.removesuffix('s') if value == '1' else key}"
    return _WORDS.get((key, value), f"{key} {value}")
