"""OpenVINO on x86 CPUs: the graph as OpenVINO's IR, compiled with its precision always stated.

Without a stated precision, OpenVINO computes in bfloat16 on CPUs that have it, whatever the graph says; it also does so
if it is asked for float16 on a CPU without float16. Therefore FP16 graphs are compiled for float32: weights in half the
bytes, products in float32. So are INT8 and INT4 graphs: quantized nodes compute in integers, the others in float32.
Activations become int8 for compressed weights only if the IR says so (`runtime_options`).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure
from engines.graph.precision import QUANTIZED, not_quantized, stated_graph
from engines.runtimes.candidates import Candidate, Situation, streamed
from engines.runtimes.form import OPEN_QUANTIZER, FormSpec
from engines.runtimes.host import HostRuntime
from engines.runtimes.knobs import STREAMS, THREADS, Knob, check_knobs, shared_options
from engines.runtimes.opened import OWN_OPTIONS
from engines.runtimes.openvino.models import (
    compress_weights,
    is_quantized,
    name_by_position,
    profiled_layers,
    read_network,
)
from engines.runtimes.openvino.opener import PACKAGES, open_file
from engines.runtimes.protocol import BuildOptions, BuiltForm, Integers, Layer, Runtime, Session
from engines.runtimes.refusals import crashed, unsupported_operator, unsupported_precision
from engines.runtimes.session import open_session
from engines.runtimes.source import GRAPH, NETWORK, BuildSource
from engines.spec.devices import Device
from engines.tensors import Arrays

_TITLE = "OpenVINO"
_HINTS = {"FP32": "f32", "BF16": "bf16", "FP16": "f32", "INT8": "f32", "INT4": "f32"}
_GROUP_SIZE = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
IR = "xml"
"""Kind of source that is an IR: OpenVINO's own form."""
_KNOBS = (
    Knob("reader", "networks whose export to ONNX makes them slower", {"pytorch": "read from PyTorch"}),
    Knob(
        "weights",
        "products: weights in eight bits, without calibration",
        {"int8": "8-bit weights"},
        {"int8": "INT8 weights, integer products"},
    ),
    STREAMS,
    THREADS,
)
_NO_RULE = re.compile(r"No conversion rule found for operations: (?P<op>[\w.]+)")


class OpenVino(HostRuntime):
    """OpenVINO's CPU plug-in."""

    name = "openvino"
    title = _TITLE
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = ("openvino",)
    takes: tuple[str, ...] = (IR, GRAPH, NETWORK)
    integers: Integers | None = Integers(IR, saturate=True)
    tools = ("nncf",)
    knobs: tuple[Knob, ...] = _KNOBS

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Write the graph as `out_dir/model.xml` and `model.bin`, weights as they are, dynamic axes kept.

        The precision is what the graph says, or FP32, FP16 or BF16 for a graph in float32; INT8 for compressed weights.
        """
        import openvino as ov

        precision, knobs = options.precision, options.knobs
        check_knobs(_TITLE, knobs, _KNOBS)
        stated = compile_options(precision, int(knobs.get("streams", "1"))) | shared_options(knobs)
        taken = NETWORK if knobs.get("reader") == "pytorch" else source.form_for(_TITLE, self.takes)
        out_dir.mkdir(parents=True, exist_ok=True)
        graph = source.graph() if taken == GRAPH else None
        try:
            model = _read(source, graph, taken, precision, knobs)
        except EngineFailure:
            raise
        except Exception as error:
            raise _translate(error, graph) from error
        name_by_position(model)
        # an ONNX graph says itself what is in half precision
        ov.save_model(model, str(out_dir / "model.xml"), compress_to_fp16=precision == "FP16" and graph is None)
        stated[_GROUP_SIZE] = _stated_group_size(model)
        outputs = tuple(spec.name for spec in source.signature.outputs)
        return BuiltForm(self.name, target.id, precision, out_dir, ("model.xml", "model.bin"), outputs, stated)

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Compile the form for the CPU."""
        return open_session(_TITLE, open_file, form, threads, lambda error: crashed(_TITLE, "compile the model", error))

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return the nodes that OpenVINO counts."""
        config = {name: value for name, value in form.options.items() if name not in OWN_OPTIONS}
        return profiled_layers(str(form.entry), {**config, "INFERENCE_NUM_THREADS": threads}, feed)

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the graph in every precision that is allowed, in eight bits, and as OpenVINO reads the network."""
        main = list(self._main(now))
        if now.objective == "THROUGHPUT" and now.threads > 1:
            yield from streamed(main, now.threads)
        yield from main
        if now.has_module:
            if now.allows_half:
                yield Candidate(FormSpec(self.name, "BF16", reader="pytorch"), 57)
            yield Candidate(FormSpec(self.name, "FP32", reader="pytorch"), 56)
        if now.threads > 1:
            yield Candidate(self._form("BF16" if now.allows_half else "FP32", ("threads", "1")), 53)
        if now.allows_half and now.objective != "SIZE":  # half the bytes for those who look at the size as well
            yield Candidate(self._form("FP16"), 19)

    def _main(self, now: Situation) -> Iterator[Candidate]:
        weights = self._form("INT8", ("weights", "int8"))
        if now.objective == "SIZE" and now.goal == "INT8":
            yield Candidate(weights, 98)
        if now.objective == "SIZE" and now.allows_half:
            yield Candidate(self._form("FP16"), 96)
        if now.allows_half:
            yield Candidate(self._form("BF16"), 89)
        yield Candidate(self._form("FP32"), 88)
        if now.goal == "INT8":
            yield Candidate(weights, 78)
        if now.quantizes:
            yield Candidate(FormSpec(self.name, "INT8", OPEN_QUANTIZER), 68)

    def _form(self, precision: str, *knobs: tuple[str, str]) -> FormSpec:
        return FormSpec(self.name, precision, knobs=knobs)


RUNTIME: Runtime = OpenVino()


def _read(source: BuildSource, graph: Path | None, taken: str, precision: str, knobs: Mapping[str, str]) -> Any:
    import openvino as ov

    compressed = knobs.get("weights") == "int8"
    if taken == NETWORK:
        model = read_network(source)
    elif graph is None:
        model = ov.Core().read_model(str(source.files[taken]))
    else:
        with tempfile.TemporaryDirectory() as directory:
            stated = stated_graph(graph, "FP32" if compressed else precision, Path(directory))
            model = ov.convert_model(str(stated))
    if compressed:
        model = compress_weights(model)
    if precision in QUANTIZED and graph is None and not is_quantized(model):
        raise not_quantized(precision)
    return model


def compile_options(precision: str, streams: int = 1) -> dict[str, str]:
    """Return the options for a precision and a number of streams.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION if this CPU cannot compute in it.
    """
    if precision not in _HINTS:
        why = f"its CPU plug-in takes {', '.join(_HINTS)} only."
        raise unsupported_precision(_TITLE, precision, why, "It offers FP32, and BF16 on CPUs that have bfloat16.")
    if precision == "BF16" and "BF16" not in capabilities():
        why = "this CPU has no bfloat16 arithmetic (AVX512_BF16 or AMX)."
        raise unsupported_precision(_TITLE, precision, why, "It is offered on CPUs that have bfloat16.")
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "THROUGHPUT" if streams > 1 else "LATENCY",
        "NUM_STREAMS": str(streams),
    }


def capabilities() -> frozenset[str]:
    """Return what the CPU plug-in can compute in here: `FP32`, `BF16`, `INT8`…"""
    import openvino as ov

    return frozenset(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _stated_group_size(model: Any) -> str:
    """Return how many activations share a scale in int8 products, as the IR says; 0 if products are not in int8."""
    path = ["runtime_options", _GROUP_SIZE]
    return str(model.get_rt_info(path).astype(str)) if model.has_rt_info(path) else "0"


def _translate(error: Exception, graph: Path | None) -> EngineFailure:
    match = _NO_RULE.search(str(error))
    if match and graph:
        domain, _, operator = match["op"].rpartition(".")
        return unsupported_operator(_TITLE, graph, operator, domain, str(error))
    return crashed(_TITLE, "read the graph", error)
