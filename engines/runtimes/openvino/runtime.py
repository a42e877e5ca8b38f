"""OpenVINO on x86 CPUs: the graph as OpenVINO's IR, compiled with its precision always stated.

Without a stated precision OpenVINO computes in bfloat16 on CPUs that have it, whatever the graph says; asked for
float16 on one without that, too. So FP16 graphs are compiled for float32: weights in half the bytes, products in
float32. So are INT8 and INT4 graphs: what the graph quantizes is computed in integers, the rest in float32. Whether
activations are brought to int8 for compressed weights is what the IR says (`runtime_options`), else they are not.

Knobs: `streams` computes that many calls at the same time, for throughput; `reader` pytorch takes the torch network by
OpenVINO's own reader; `weights` int8 stores the weights of a graph in floating point in eight bits, and needs no
calibration; `threads` bounds the threads.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure
from engines.graph.stated import QUANTIZED, not_quantized, stated_graph
from engines.runtimes.knobs import check_knobs, shared_options
from engines.runtimes.openvino.models import compress_weights, is_quantized, name_by_position, read_network
from engines.runtimes.openvino.opener import PACKAGES, open_form
from engines.runtimes.protocol import (
    NO_KNOBS,
    BuildSource,
    BuiltForm,
    Session,
    crashed,
    unsupported_operator,
    unsupported_precision,
)
from engines.runtimes.session import open_session

_TITLE = "OpenVINO"
_HINTS = {"FP32": "f32", "BF16": "bf16", "FP16": "f32", "INT8": "f32", "INT4": "f32"}
_GROUP_SIZE = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
_KNOBS = {"streams": (), "threads": (), "reader": ("pytorch",), "weights": ("int8",)}
_NO_RULE = re.compile(r"No conversion rule found for operations: (?P<op>[\w.]+)")


class OpenVinoBackend:
    """Builds and opens forms for OpenVINO's CPU plug-in."""

    name = "openvino"
    packages: tuple[str, ...] = PACKAGES

    def available(self) -> str | None:
        """Return None when OpenVINO is installed, else what is missing."""
        return None if importlib.util.find_spec("openvino") else "the package `openvino`"

    def build(
        self, source: BuildSource, out_dir: Path, precision: str, knobs: Mapping[str, str] = NO_KNOBS
    ) -> BuiltForm:
        """Write the graph as `out_dir/model.xml` and `model.bin`, weights as they are, dynamic axes kept.

        The precision is what the graph says, or FP32, FP16 or BF16 for a graph in float32; INT8 for compressed weights.
        """
        import openvino as ov

        check_knobs(_TITLE, knobs, _KNOBS)
        options = compile_options(precision, int(knobs.get("streams", "1"))) | shared_options(knobs)
        out_dir.mkdir(parents=True, exist_ok=True)
        try:
            model = self._read(source, precision, knobs)
        except EngineFailure:
            raise
        except Exception as error:
            raise _translate(error, source.onnx_path) from error
        name_by_position(model)
        as_it_is = "reader" not in knobs and source.onnx_path.suffix == ".onnx"  # an ONNX graph says what is halved
        ov.save_model(model, str(out_dir / "model.xml"), compress_to_fp16=precision == "FP16" and not as_it_is)
        options[_GROUP_SIZE] = _stated_group_size(model)
        outputs = tuple(spec.name for spec in source.signature.outputs)
        return BuiltForm(self.name, precision, out_dir, ("model.xml", "model.bin"), outputs, options)

    def _read(self, source: BuildSource, precision: str, knobs: Mapping[str, str]) -> Any:
        import openvino as ov

        compressed = knobs.get("weights") == "int8"
        wanted = "FP32" if compressed else precision
        path = source.onnx_path
        if knobs.get("reader") == "pytorch":
            model = read_network(source)
        elif path.suffix == ".xml":
            model = ov.Core().read_model(str(path))
        else:
            with tempfile.TemporaryDirectory() as directory:
                model = ov.convert_model(str(stated_graph(path, wanted, Path(directory))))
        if compressed:
            model = compress_weights(model)
        if precision in QUANTIZED and path.suffix != ".onnx" and not is_quantized(model):
            raise not_quantized(precision)
        return model

    def open(self, form: BuiltForm, threads: int) -> Session:
        """Compile the form for the CPU."""
        return open_session(_TITLE, open_form, form, threads, lambda error: crashed(_TITLE, "compile the model", error))


def compile_options(precision: str, streams: int = 1) -> dict[str, str]:
    """Return the options for a precision and a number of streams.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION where this CPU cannot compute in it.
    """
    if precision not in _HINTS:
        why = f"its CPU plug-in is asked for {', '.join(_HINTS)} only."
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
    """Return how many activations share a scale where products are computed in int8, as the IR says; 0 for none."""
    path = ["runtime_options", _GROUP_SIZE]
    return str(model.get_rt_info(path).astype(str)) if model.has_rt_info(path) else "0"


def _translate(error: Exception, onnx_path: Path) -> EngineFailure:
    match = _NO_RULE.search(str(error))
    if match:
        domain, _, operator = match["op"].rpartition(".")
        return unsupported_operator(_TITLE, onnx_path, operator, domain, str(error))
    return crashed(_TITLE, "read the graph", error)
