"""ONNX Runtime on CPUs, x86 and ARM: the graph as it is, fully optimized when it is loaded.

The optimized graph depends on the processor, so the package carries the original ONNX file. FP16 graphs are computed in
float32 between casts, and weights are cast once at the start: half the file, no less time. There are no BF16 kernels.
Integers are computed exactly: without `session.x64quantprecision`, the kernels for x86 processors without VNNI let sums
of products of unsigned and signed bytes overflow. Other processors do not get the option: it only halves the speed.

The kernels for ARM are others than those for x86, so what x86 computes is no verdict on ARM: parity is reached there,
or in an emulator of it. With `asimdhp`, ARM computes FP16 graphs in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from engines.graph.precision import QUANTIZED, stated_graph
from engines.runtimes.candidates import Candidate, Situation, streamed
from engines.runtimes.form import OPEN_QUANTIZER, FormSpec
from engines.runtimes.host import HostRuntime
from engines.runtimes.knobs import STREAMS, THREADS, Knob, check_knobs, shared_options
from engines.runtimes.onnxruntime.dynamic_graph import quantize_by_default, quantize_products
from engines.runtimes.onnxruntime.graph_files import placed_graph
from engines.runtimes.onnxruntime.opener import EXACT, PACKAGES, open_file
from engines.runtimes.onnxruntime.profiling import profiled_layers
from engines.runtimes.onnxruntime.refusals import translated
from engines.runtimes.onnxruntime.transformer_graph import fused_graph
from engines.runtimes.protocol import BuildOptions, BuiltForm, Integers, Layer, Runtime, Session
from engines.runtimes.refusals import unsupported_precision
from engines.runtimes.session import OpenedSession, open_session
from engines.runtimes.source import GRAPH, BuildSource
from engines.spec.devices import Device
from engines.tensors import Arrays

_TITLE = "ONNX Runtime"
_PLAIN = {"graph_optimization_level": "ORT_ENABLE_ALL", "execution_mode": "ORT_SEQUENTIAL"}
_KNOBS = (
    Knob("binding", "tiny models: tensors of the session's own are bound once", {"bound": "pre-bound tensors"}),
    Knob("graph", "transformers: attention and its neighbours become one operator", {"transformer": "fused attention"}),
    Knob("spinning", "machines that have other work: idle threads sleep", {"off": "spinning off"}),
    Knob(
        "weights",
        "products: computed in integers whose ranges are found in each call",
        {"int8": "8-bit weights", "int8_default": "8-bit weights by the quantizer's defaults"},
        {"int8": "onnxruntime dynamic per channel", "int8_default": "onnxruntime dynamic per tensor"},
    ),
    STREAMS,
    THREADS,
)
_BOUND = ("binding", "bound")
_DEFAULT_WEIGHTS = ("weights", "int8_default")


class OnnxRuntime(HostRuntime):
    """ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    title = _TITLE
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = ("onnxruntime",)
    takes: tuple[str, ...] = (GRAPH,)
    integers: Integers | None = Integers()
    emulated = True
    knobs: tuple[Knob, ...] = _KNOBS

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Write the graph, with its external data, to `out_dir/model.onnx`."""
        precision, knobs = options.precision, options.knobs
        check_knobs(_TITLE, knobs, _KNOBS)
        source.form_for(_TITLE, self.takes)
        if precision == "BF16":
            why = "its CPU provider has no bfloat16 kernels."
            raise unsupported_precision(_TITLE, precision, why, "OpenVINO offers BF16 on CPUs that have bfloat16.")
        out_dir.mkdir(parents=True, exist_ok=True)
        onnx_path = source.graph()
        if "weights" in knobs:
            quantize = quantize_products if knobs["weights"] == "int8" else quantize_by_default
            onnx_path = quantize(onnx_path, out_dir / "model.onnx")
        onnx_path = stated_graph(onnx_path, precision, out_dir)
        if knobs.get("graph") == "transformer":
            onnx_path = fused_graph(onnx_path, out_dir / "model.onnx")
        files = placed_graph(onnx_path, out_dir)
        outputs = tuple(spec.name for spec in source.signature.outputs)
        return BuiltForm(self.name, target.id, precision, out_dir, files, outputs, _options(precision, knobs))

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Load the graph with every optimisation on."""
        return open_session(
            *(_TITLE, open_file, form, threads, lambda error: translated(_TITLE, error, form.entry)),
            emulator=self.emulator(device),
        )

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return the kernels that ONNX Runtime's profile lists."""
        return profiled_layers(form, feed, threads)

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the graph itself, the graph in eight bits, and the graph with knobs."""
        main = list(self._main(now))
        if now.objective == "THROUGHPUT" and now.threads > 1:
            yield from streamed(main, now.threads)
        yield from main
        if now.quantizes:
            yield Candidate(self._form("INT8", _BOUND, quantizer=OPEN_QUANTIZER), 59)
        yield Candidate(self._form("FP32", _BOUND), 58)  # nothing to make, and what wins most on tiny models
        if now.threads > 1:
            yield Candidate(self._form("FP32", _BOUND, ("threads", "1")), 55)
            yield Candidate(self._form("FP32", ("spinning", "off")), 54)
            # In many small steps, as of an LSTM, threads cost more than they give.
            if now.goal == "INT8" and not now.is_transformer and not now.has_images:
                yield Candidate(self._form("INT8", _DEFAULT_WEIGHTS, ("threads", "1")), 53)
        if now.is_transformer:
            yield Candidate(self._form("FP32", ("graph", "transformer")), 52)
        if now.goal == "INT8":  # what other tools make by default, even if it seldom wins with images
            yield Candidate(self._form("INT8", _DEFAULT_WEIGHTS), 51)

    def baselines(self, now: Situation) -> Iterator[Candidate]:
        """Yield the graph itself: the baseline of graphs, and of networks that no other runtime runs."""
        yield Candidate(self._form("INT8", quantizer=OPEN_QUANTIZER) if now.is_quantized else self._form("FP32"), 0)

    def _main(self, now: Situation) -> Iterator[Candidate]:
        weights = self._form("INT8", ("weights", "int8"))
        # convolutions stay in floating point there, so that images gain nothing
        has_products = now.goal == "INT8" and (now.is_transformer or not now.has_images)
        if now.objective == "SIZE" and has_products:
            yield Candidate(weights, 97)
        if now.objective == "SIZE" and now.allows_half:
            yield Candidate(self._form("FP16"), 95)
        yield Candidate(self._form("FP32"), 87)
        if has_products:
            yield Candidate(weights, 77)
            yield Candidate(self._form("INT8", _DEFAULT_WEIGHTS), 76)
        if now.quantizes:
            yield Candidate(self._form("INT8", quantizer=OPEN_QUANTIZER), 67)

    def _form(self, precision: str, *knobs: tuple[str, str], quantizer: str = "") -> FormSpec:
        return FormSpec(self.name, precision, quantizer, knobs=knobs)


RUNTIME: Runtime = OnnxRuntime()


def _options(precision: str, knobs: Mapping[str, str]) -> dict[str, str]:
    options = dict(_PLAIN)
    if precision in QUANTIZED:
        options[EXACT] = "1"
    if knobs.get("spinning") == "off":
        options["session.intra_op.allow_spinning"] = "0"
    own = {name: knobs[name] for name in ("binding", "streams") if name in knobs}
    return options | own | shared_options(knobs)


class OnnxRuntimeSession(OpenedSession):
    """An ONNX graph in ONNX Runtime; without `optimise`, the reference that other forms are compared with."""

    def __init__(self, path: Path, threads: int, *, optimise: bool) -> None:
        level = {} if optimise else {"graph_optimization_level": "ORT_DISABLE_ALL"}
        try:
            opened = open_file(str(path), _PLAIN | level, threads)
        except Exception as error:
            raise translated(_TITLE, error, path) from error
        super().__init__(_TITLE, opened)
