"""The interface of all quantizers, and the order in which they are tried.

    floating-point graph ──Quantizer──▶ quantized graph (.onnx, or a runtime's own .xml, .tflite) ──runtime──▶ form

No tool is right for every model and runtime, so several are tried and the search picks. The simpler come first: of two
forms that are equally fast, the earlier one is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from engines.quantization.feeds import Feeds
from engines.quantization.ranges import Ranges, find_ranges
from engines.runtimes.source import BuildSource

NOTES = "notes.txt"
"""File beside a quantized graph with what its quantizer has to say to the user, a line each."""


@dataclass(frozen=True)
class Settings:
    """How a form is quantized.

    Attributes:
        precision: INT8, INT4, FP16 or BF16.
        method: Calibration method of the API.
        asymmetric: Ranges of activations as they are, or symmetric about zero.
        per_channel: One scale per output channel of a weight, or one per tensor.
        seven_bits: Weights take 7 bits, for processors whose sums of 8-bit products saturate.
        transformer: Whether the graph has attention or layer normalization.
        runtime: The runtime that will serve the form.
        function: Whether the source is a function of TensorFlow.
        signed: Whether activations take signed bytes about zero, and biases stay in floating point.
        halves: Whether FP16 is computed beside the integers, for chips that lack FP32 in what networks need.
    """

    precision: str
    method: str
    asymmetric: bool
    per_channel: bool
    seven_bits: bool
    transformer: bool
    runtime: str
    function: bool = False
    signed: bool = False
    halves: bool = False

    def in_words(self, *, method: str = "") -> str:
        """Return the settings for the name of a candidate: `ENTROPY_2 symmetric per channel`."""
        symmetry = "asymmetric" if self.asymmetric else "symmetric"
        granularity = "per channel" if self.per_channel else "per tensor"
        return (
            f"{method or self.method} {symmetry} {granularity}"
            + (", 7-bit weights" if self.seven_bits else "")
            + (", FP16 beside" if self.halves else "")
        )


@dataclass
class Material:
    """The input of quantizers.

    Attributes:
        graph: The floating-point graph, shapes inferred, nodes named.
        feeds: Calibration feeds; None if the scheme needs none.
        scratch: Directory for intermediate files.
        progress: Takes a sentence on what is being done.
        source: The forms of the source, for quantizers that write a runtime's own; None if only the graph is known.
    """

    graph: Path
    feeds: Feeds | None
    scratch: Path
    progress: Callable[[str], None]
    source: BuildSource | None = None
    _ranges: dict[str, Ranges] = field(default_factory=dict)

    def ranges(self, method: str) -> Ranges:
        """Return the ranges of activations by a method, found once for every quantizer and every rung of the ladder."""
        if method not in self._ranges:
            feeds = self.calibration()
            self._ranges[method] = find_ranges(
                self.graph,
                feeds,
                method,
                self.scratch,
                lambda done: self.progress(f"calibrating by {method}, batch {done} of {len(feeds)}"),
            )
        return self._ranges[method]

    def calibration(self) -> Feeds:
        """Return the calibration feeds.

        Raises:
            ValueError: if there are none; quantizers that need them are candidates only if there are.
        """
        if self.feeds is None:
            raise ValueError("no calibration feeds")
        return self.feeds


class Quantizer(Protocol):
    """One way to quantize."""

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        ...

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the quantized graph into a directory and return its file; warnings for the user go to `NOTES` there.

        Args:
            material: The graph and the data.
            settings: How.
            excluded: Names of nodes that stay in floating point.
            out_dir: An empty directory.

        Raises:
            EngineFailure: if the tool refuses, with a sentence. Tools may raise anything else, too.
        """
        ...
