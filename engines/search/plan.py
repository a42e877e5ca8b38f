"""Which forms a search tries, the most promising first.

The order is that in which forms won when they were measured side by side: with the time spent early, what was tried is
what wins most. Knobs that never won on these processors are not here: ONNX Runtime's parallel mode, FP16 for speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engines.failures import EngineFailure
from engines.runtimes import backend
from engines.runtimes.form import FormSpec
from engines.spec.devices import load_catalog
from engines.spec.toolchain import cpu

HALF_GOALS = frozenset({"BF16", "FP16", "INT8"})
"""Goals that allow arithmetic in half precision."""
IMAGE_RANK = 4
"""Rank of images in batches, whose channels may lie last in memory."""
_MANY_SAMPLES = 4
"""Batch from which on the allocator costs TorchScript time: its activations are mapped and unmapped in every call."""


@dataclass(frozen=True)
class Situation:
    """What the candidates depend on.

    Attributes:
        goal: Lowest precision that is allowed: FP32, FP16, BF16 or INT8.
        objective: LATENCY, THROUGHPUT or SIZE.
        has_module: Whether the source has a torch network.
        has_calibration: Whether there is data to calibrate on.
        is_transformer: Whether the graph has attention.
        has_images: Whether some input has the rank of images.
        batch: Samples of one call.
        threads: Threads that a form may take.
    """

    goal: str
    objective: str
    has_module: bool
    has_calibration: bool
    is_transformer: bool
    has_images: bool
    batch: int
    threads: int


def baselines(*, has_module: bool, quantized: bool = False) -> list[FormSpec]:
    """Return what stands for the source, the best first: the first that holds is the baseline.

    A graph is run by ONNX Runtime. A network is frozen in TorchScript, as users run it; if that does not compute what
    the network computes, it is run eagerly, or else as the graph that was exported.

    Args:
        has_module: Whether the source has a torch network.
        quantized: Whether the graph carries quantization, so that integers are its own arithmetic.
    """
    graph = FormSpec("onnxruntime", "INT8", "quantized") if quantized else FormSpec("onnxruntime", "FP32")
    if not has_module:
        return [graph]
    return [FormSpec("torchscript", "FP32"), FormSpec("torchscript", "FP32", knobs=(("mode", "eager"),)), graph]


def candidates(
    device: str,
    goal: str,
    objective: str,
    *,
    has_module: bool,
    has_calibration: bool,
    is_transformer: bool,
    has_images: bool,
    batch: int,
    threads: int = 2,
) -> list[FormSpec]:
    """Return the forms to try, the most promising first; those that the device or what is installed lacks are left out.

    Args:
        device: Device of the catalog.
        goal: Lowest precision that is allowed.
        objective: What is to be best.
        has_module: Whether the source has a torch network.
        has_calibration: Whether there is data to calibrate on.
        is_transformer: Whether the graph has attention.
        has_images: Whether some input has the rank of images.
        batch: Samples of one call.
        threads: Threads that a form may take.

    Raises:
        EngineFailure: INVALID_SPEC for a device that the catalog does not have.
    """
    now = Situation(goal, objective, has_module, has_calibration, is_transformer, has_images, batch, threads)
    offered = _offered(device)
    return [spec for spec in dict.fromkeys(_ordered(now)) if (spec.runtime, spec.precision) in offered]


def _offered(device: str) -> set[tuple[str, str]]:
    """Return the runtimes that can build here, with each precision that they offer on this processor."""
    flags = cpu()[1]
    found: set[tuple[str, str]] = set()
    for runtime in load_catalog().device(device).buildable_runtimes.values():
        try:
            backend(runtime.name)
        except EngineFailure:
            continue
        found |= {(runtime.name, precision) for precision in (*runtime.precisions_on(flags), *runtime.quantized)}
    return found


def _ordered(now: Situation) -> Iterator[FormSpec]:
    main = list(_main(now))
    if now.objective == "THROUGHPUT" and now.threads > 1:
        yield from _streamed(main, now.threads)
    yield from main
    yield from _refined(now)
    yield from _others(now)


def _main(now: Situation) -> Iterator[FormSpec]:
    """Yield what wins most often: the two runtimes that build from graphs, in every precision that is allowed.

    The defaults come before what has to be quantized: they are made in seconds, and what is recommended must not be
    slower than the best of them, however little time there is.
    """
    if now.objective == "SIZE":
        yield from _small(now)
    if now.goal in HALF_GOALS:
        yield FormSpec("openvino", "BF16")
    yield FormSpec("openvino", "FP32")
    yield FormSpec("onnxruntime", "FP32")
    if now.goal == "INT8":
        yield from _eight_bit_weights(now)
    if now.goal == "INT8" and now.has_calibration:
        yield FormSpec("openvino", "INT8", "quantized")
        yield FormSpec("onnxruntime", "INT8", "quantized")


def _eight_bit_weights(now: Situation) -> Iterator[FormSpec]:
    """Yield what is made in seconds from weights alone; ONNX Runtime's computes convolutions in floating point."""
    yield FormSpec("openvino", "INT8", knobs=(("weights", "int8"),))
    if now.is_transformer or not now.has_images:
        yield FormSpec("onnxruntime", "INT8", knobs=(("weights", "int8"),))


def _small(now: Situation) -> Iterator[FormSpec]:
    if now.goal == "INT8":
        yield from _eight_bit_weights(now)
    if now.goal in HALF_GOALS:
        yield FormSpec("openvino", "FP16")
        yield FormSpec("onnxruntime", "FP16")


def _streamed(forms: Iterable[FormSpec], threads: int) -> Iterator[FormSpec]:
    """Yield the forms with as many calls at a time as there are threads, and with half as many."""
    counts = [threads] if threads < 4 else [threads, threads // 2]
    for form in forms:
        for count in counts:
            yield FormSpec(
                form.runtime,
                form.precision,
                form.quantizer,
                form.reader,
                (*form.knobs, ("streams", str(count))),
            )


def _refined(now: Situation) -> Iterator[FormSpec]:
    """Yield the same runtimes with what makes them a little faster: 1 to 6 %, and 20 % where the model is tiny."""
    half = now.goal in HALF_GOALS
    bound = ("binding", "bound")
    if now.goal == "INT8" and now.has_calibration:
        yield FormSpec("onnxruntime", "INT8", "quantized", knobs=(bound,))
    yield FormSpec("onnxruntime", "FP32", knobs=(bound,))  # nothing to make, and what wins most on tiny models
    if now.has_module:
        if half:
            yield FormSpec("openvino", "BF16", reader="pytorch")
        yield FormSpec("openvino", "FP32", reader="pytorch")
    if now.threads > 1:
        yield FormSpec("onnxruntime", "FP32", knobs=(bound, ("threads", "1")))
        yield FormSpec("onnxruntime", "FP32", knobs=(("spinning", "off"),))
        yield FormSpec("openvino", "BF16" if half else "FP32", knobs=(("threads", "1"),))
    if now.is_transformer:
        yield FormSpec("onnxruntime", "FP32", knobs=(("graph", "transformer"),))


def _others(now: Situation) -> Iterator[FormSpec]:
    """Yield what runs the torch network itself: it wins where nothing else takes the graph, and with unusual ones."""
    if now.has_module:
        kept = (("allocator", "tuned"),) if now.batch >= _MANY_SAMPLES else ()
        yield FormSpec("torchscript", "FP32", knobs=(("graph", "inference"), *kept))
        if now.goal in HALF_GOALS:
            layout = (("layout", "channels_last"),) if now.has_images else ()
            yield FormSpec("torchscript", "BF16", knobs=(*layout, *kept))
            yield FormSpec("inductor", "BF16", knobs=kept)
        yield FormSpec("inductor", "FP32", knobs=kept)
    if now.goal in HALF_GOALS and now.objective != "SIZE":  # half the bytes for those who look at the size as well
        yield FormSpec("openvino", "FP16")
