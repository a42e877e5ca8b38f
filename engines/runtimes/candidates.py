"""The situation in which a search asks runtimes for candidates, and their answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from engines.runtimes.form import FormSpec
from engines.spec.devices import Device

HALF_GOALS = frozenset({"BF16", "FP16", "INT8"})
"""Goals that allow arithmetic in half precision."""
IMAGE_RANK = 4
"""Rank of images in batches, whose channels may lie last in memory."""
_STREAMED = 100


@dataclass(frozen=True)
class Situation:
    """The properties of a search that the candidates depend on.

    Attributes:
        goal: Lowest precision that is allowed: FP32, FP16, BF16 or INT8.
        objective: LATENCY, THROUGHPUT or SIZE.
        has_module: Whether the source has a torch network.
        has_function: Whether the source is a function of TensorFlow.
        has_calibration: Whether there is data to calibrate on.
        is_transformer: Whether the graph has attention.
        has_images: Whether some input has the rank of images.
        batch: Samples of one call.
        threads: Threads that a form may take.
        is_quantized: Whether the graph carries quantization, so that integers are its own arithmetic.
        target: The device that the forms are for; the search sets it.
    """

    goal: str = "FP32"
    objective: str = "LATENCY"
    has_module: bool = False
    has_function: bool = False
    has_calibration: bool = False
    is_transformer: bool = False
    has_images: bool = False
    batch: int = 1
    threads: int = 2
    is_quantized: bool = False
    target: Device | None = None

    @property
    def on_accelerator(self) -> bool:
        """Whether the forms compute on an accelerator, so that the host's threads and memory matter little."""
        return self.target is not None and self.target.is_accelerator

    @property
    def allows_half(self) -> bool:
        """Whether arithmetic in half precision is allowed."""
        return self.goal in HALF_GOALS

    @property
    def quantizes(self) -> bool:
        """Whether forms may be quantized with data."""
        return self.goal == "INT8" and self.has_calibration


@dataclass(frozen=True)
class Candidate:
    """A form that a search should try.

    Attributes:
        spec: The form.
        promise: How early to try it: the higher, the earlier. The scale is shared by all runtimes:

            over 100  several calls at a time, if throughput is asked for
            90 to 100 few bytes, if size is asked for
            80 to 89  the runtime's defaults: they are made in seconds, and the choice must not be slower than they are
            70 to 79  eight bits that are made in seconds, without data
            60 to 69  eight bits that are calibrated
            40 to 59  knobs that make a default 1 to 6 % faster, 20 % if the model is tiny
            20 to 39  what wins with unusual models only
            under 20  what other goals than speed may need
    """

    spec: FormSpec
    promise: float


def streamed(candidates: Iterable[Candidate], threads: int) -> Iterator[Candidate]:
    """Yield candidates with as many calls at a time as there are threads, and with half as many, before all others."""
    for candidate in candidates:
        for later, count in enumerate([threads] if threads < 4 else [threads, threads // 2]):
            spec = replace(candidate.spec, knobs=(*candidate.spec.knobs, ("streams", str(count))))
            yield Candidate(spec, _STREAMED + candidate.promise - later / 2)
