"""OpenVINO on x86 CPUs: the graph as OpenVINO's IR, compiled with its precision always stated.

Without a stated precision OpenVINO computes in bfloat16 on CPUs that have it, whatever the graph says; asked for
float16 on one without that, too. So FP16 graphs are compiled for float32: weights in half the bytes, products in
float32. So are INT8 and INT4 graphs: what the graph quantizes is computed in integers, the rest in float32. Whether
activations are brought to int8 for compressed weights is what the IR says (`runtime_options`), else they are not.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.backends.base import (
    Array,
    Arrays,
    BuiltForm,
    Session,
    contiguous,
    crashed,
    unsupported_operator,
    unsupported_precision,
)
from engines.backends.stated import QUANTIZED, not_quantized, stated_graph
from engines.failures import EngineFailure
from engines.signature import Signature

_TITLE = "OpenVINO"
_HINTS = {"FP32": "f32", "BF16": "bf16", "FP16": "f32", "INT8": "f32", "INT4": "f32"}
_GROUP_SIZE = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
_INTEGERS = frozenset({"i8", "u8", "i4", "u4"})
_NO_RULE = re.compile(r"No conversion rule found for operations: (?P<op>[\w.]+)")


class OpenVinoBackend:
    """Builds and opens forms for OpenVINO's CPU plug-in."""

    name = "openvino"
    packages: tuple[str, ...] = ("openvino",)

    def available(self) -> str | None:
        """Return None when OpenVINO is installed, else what is missing."""
        return None if importlib.util.find_spec("openvino") else "the package `openvino`"

    def build(self, onnx_path: Path, out_dir: Path, precision: str, signature: Signature) -> BuiltForm:
        """Write the graph as `out_dir/model.xml` and `model.bin`, weights as they are, dynamic axes kept.

        Args:
            onnx_path: An ONNX file, or the `.xml` of an IR with its `.bin` beside it.
            out_dir: Where the form goes.
            precision: What the graph says, or FP32, FP16 or BF16 for a graph in float32.
            signature: Its interface.
        """
        import openvino as ov

        options = compile_options(precision)
        out_dir.mkdir(parents=True, exist_ok=True)
        try:
            model = self._read(onnx_path, precision)
        except EngineFailure:
            raise
        except Exception as error:
            raise _translate(error, onnx_path) from error
        name_by_position(model)
        halve = precision == "FP16" and onnx_path.suffix == ".xml"  # an ONNX graph says itself what is halved
        ov.save_model(model, str(out_dir / "model.xml"), compress_to_fp16=halve)
        options[_GROUP_SIZE] = _stated_group_size(model)
        outputs = tuple(spec.name for spec in signature.outputs)
        return BuiltForm(self.name, precision, out_dir, ("model.xml", "model.bin"), outputs, options)

    def _read(self, path: Path, precision: str) -> Any:
        import openvino as ov

        if path.suffix == ".xml":
            model = ov.Core().read_model(str(path))
            if precision in QUANTIZED and not _is_quantized(model):
                raise not_quantized(precision)
            return model
        with tempfile.TemporaryDirectory() as directory:
            return ov.convert_model(str(stated_graph(path, precision, Path(directory))))

    def open(self, form: BuiltForm, threads: int) -> Session:
        """Compile the form for the CPU."""
        return OpenVinoSession(form, threads)


class OpenVinoSession:
    """A compiled model with one inference request."""

    def __init__(self, form: BuiltForm, threads: int) -> None:
        import openvino as ov

        config = {**form.options, "INFERENCE_NUM_THREADS": threads}
        try:
            compiled = ov.Core().compile_model(str(form.entry), "CPU", config)
            self._request: Any = compiled.create_infer_request()
        except Exception as error:
            raise crashed(_TITLE, "compile the model", error) from error
        self._outputs = form.outputs

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        try:
            values = self._request.infer(contiguous(inputs), share_inputs=True, share_outputs=False)
        except Exception as error:
            raise crashed(_TITLE, "run the model", error) from error
        return dict(zip(self._outputs, values.to_tuple(), strict=True))


def compile_options(precision: str) -> dict[str, str]:
    """Return the options for a precision.

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
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
    }


def capabilities() -> frozenset[str]:
    """Return what the CPU plug-in can compute in here: `FP32`, `BF16`, `INT8`…"""
    import openvino as ov

    return frozenset(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _is_quantized(model: Any) -> bool:
    """Return whether an IR has quantization: FakeQuantize, or parameters in integers of at most eight bits."""
    return any(
        operation.get_type_name() == "FakeQuantize"
        or (
            operation.get_type_name() == "Constant"
            and operation.get_output_element_type(0).get_type_name() in _INTEGERS
            and len(operation.get_output_shape(0)) >= 2
        )
        for operation in model.get_ordered_ops()
    )


def _stated_group_size(model: Any) -> str:
    """Return how many activations share a scale where products are computed in int8, as the IR says; 0 for none."""
    path = ["runtime_options", _GROUP_SIZE]
    return str(model.get_rt_info(path).astype(str)) if model.has_rt_info(path) else "0"


def name_by_position(model: Any) -> None:
    """Replace names that hold a counter of the process, so that equal graphs give equal bytes."""
    model.set_friendly_name("model")
    for position, operation in enumerate(model.get_ordered_ops()):
        generated = operation.get_friendly_name() == operation.get_name()
        if operation.get_type_name() == "Constant" or generated:
            operation.set_friendly_name(f"{operation.get_type_name()}_at_{position}")


def _translate(error: Exception, onnx_path: Path) -> EngineFailure:
    match = _NO_RULE.search(str(error))
    if match:
        domain, _, operator = match["op"].rpartition(".")
        return unsupported_operator(_TITLE, onnx_path, operator, domain, str(error))
    return crashed(_TITLE, "read the graph", error)
