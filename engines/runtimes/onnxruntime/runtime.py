"""ONNX Runtime on CPUs: the graph as it is, optimised in full when it is loaded.

The runtime's optimised graph depends on the processor that optimised it, so the package carries the ONNX file itself.
FP16 graphs are computed in float32 between casts, weights cast once at the start: half the file, no less time. There
are no BF16 kernels. Integers are computed exactly: without `session.x64quantprecision` the kernels for x86 processors
that have no VNNI let sums of products of unsigned and signed bytes overflow. Others are not told: with it they compute
the same in kernels of half the speed.

Knobs: `spinning` off lets idle threads sleep instead of spin; `binding` bound keeps inputs and outputs in tensors that
the session owns, for as long as their shapes stay the same; `graph` transformer fuses attention and its neighbours by
`onnxruntime.transformers`; `weights` int8 computes products in integers, whose ranges are found in every call;
`streams` computes that many calls at the same time; `threads` bounds the threads.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from engines.graph.hygiene import external_files, load_model
from engines.graph.stated import QUANTIZED, stated_graph
from engines.runtimes.knobs import check_knobs, shared_options
from engines.runtimes.onnxruntime.dynamic_graph import quantize_products
from engines.runtimes.onnxruntime.opener import EXACT, PACKAGES, open_form
from engines.runtimes.onnxruntime.transformer_graph import fused_graph
from engines.runtimes.protocol import (
    NO_KNOBS,
    BuildSource,
    BuiltForm,
    Session,
    crashed,
    unsupported_operator,
    unsupported_precision,
)
from engines.runtimes.session import OpenedSession, open_session

_TITLE = "ONNX Runtime"
_PLAIN = {"graph_optimization_level": "ORT_ENABLE_ALL", "execution_mode": "ORT_SEQUENTIAL"}
_MISSING_KERNEL = re.compile(r"Could not find an implementation for (?:(?P<domain>[\w.]+)[.:])?(?P<op>\w+)\(\d+\)")
_KNOBS = {
    "spinning": ("off",),
    "binding": ("bound",),
    "graph": ("transformer",),
    "weights": ("int8",),
    "streams": (),
    "threads": (),
}
_UNKNOWN_OPERATOR = re.compile(r"(?:(?P<domain>[\w.]+):)?(?P<op>\w+)\(-?\d*\) is not a registered function/op")


class OnnxRuntimeBackend:
    """Builds and opens forms for ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    packages: tuple[str, ...] = PACKAGES

    def available(self) -> str | None:
        """Return None when ONNX Runtime is installed, else what is missing."""
        return None if importlib.util.find_spec("onnxruntime") else "the package `onnxruntime`"

    def build(
        self, source: BuildSource, out_dir: Path, precision: str, knobs: Mapping[str, str] = NO_KNOBS
    ) -> BuiltForm:
        """Write the graph, with its external data, to `out_dir/model.onnx`."""
        check_knobs(_TITLE, knobs, _KNOBS)
        if precision == "BF16":
            why = "its CPU provider has no bfloat16 kernels."
            raise unsupported_precision(_TITLE, precision, why, "OpenVINO offers BF16 on CPUs that have bfloat16.")
        out_dir.mkdir(parents=True, exist_ok=True)
        onnx_path = source.onnx_path
        if knobs.get("weights") == "int8":
            onnx_path = quantize_products(onnx_path, out_dir / "model.onnx")
        onnx_path = stated_graph(onnx_path, precision, out_dir)
        if knobs.get("graph") == "transformer":
            onnx_path = fused_graph(onnx_path, out_dir / "model.onnx")
        data = external_files(load_model(onnx_path, weights=False), onnx_path)
        if onnx_path.parent != out_dir:
            shutil.copyfile(onnx_path, out_dir / "model.onnx")
            for name in data:
                (out_dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(onnx_path.parent / name, out_dir / name)
        outputs = tuple(spec.name for spec in source.signature.outputs)
        return BuiltForm(self.name, precision, out_dir, ("model.onnx", *data), outputs, _options(precision, knobs))

    def open(self, form: BuiltForm, threads: int) -> Session:
        """Load the graph with every optimisation on."""
        return open_session(_TITLE, open_form, form, threads, lambda error: _translate(error, form.entry))


def _options(precision: str, knobs: Mapping[str, str]) -> dict[str, str]:
    options = dict(_PLAIN)
    if precision in QUANTIZED:
        options[EXACT] = "1"
    if knobs.get("spinning") == "off":
        options["session.intra_op.allow_spinning"] = "0"
    own = {name: knobs[name] for name in ("binding", "streams") if name in knobs}
    return options | own | shared_options(knobs)


class OnnxRuntimeSession(OpenedSession):
    """An ONNX graph in ONNX Runtime; with `optimise` off, the reference that other forms are compared with."""

    def __init__(self, path: Path, threads: int, *, optimise: bool) -> None:
        level = {} if optimise else {"graph_optimization_level": "ORT_DISABLE_ALL"}
        try:
            opened = open_form(str(path), _PLAIN | level, threads)
        except Exception as error:
            raise _translate(error, path) from error
        super().__init__(_TITLE, opened)


def _translate(error: Exception, path: Path) -> Exception:
    raw = str(error)
    match = _MISSING_KERNEL.search(raw) or _UNKNOWN_OPERATOR.search(raw)
    if match:
        domain = match["domain"] or ""
        return unsupported_operator(_TITLE, path, match["op"], "" if domain == "ai.onnx" else domain, raw)
    return crashed(_TITLE, "load the graph", error)
