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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from engines.graph.hygiene import external_files, load_model
from engines.graph.stated import QUANTIZED, stated_graph
from engines.runtimes.knobs import check_knobs, serve_as_stated, shared_options
from engines.runtimes.onnxruntime.dynamic_graph import quantize_products
from engines.runtimes.onnxruntime.transformer_graph import fused_graph
from engines.runtimes.protocol import (
    NO_KNOBS,
    BuildSource,
    BuiltForm,
    Session,
    contiguous,
    crashed,
    unsupported_operator,
    unsupported_precision,
)
from engines.spec.toolchain import products_saturate
from engines.tensors import Array, Arrays

_TITLE = "ONNX Runtime"
_ERRORS_ONLY = 3
_MISSING_KERNEL = re.compile(r"Could not find an implementation for (?:(?P<domain>[\w.]+)[.:])?(?P<op>\w+)\(\d+\)")
_EXACT = "session.x64quantprecision"
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
    packages: tuple[str, ...] = ("onnxruntime",)

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
        entries = {key: value for key, value in form.options.items() if key.startswith("session.")}
        if not products_saturate():
            entries.pop(_EXACT, None)
        threads = serve_as_stated(form.options, threads)
        streams = int(form.options.get("streams", "1"))
        opened = OnnxRuntimeSession(form.entry, max(1, threads // streams), optimise=True, entries=entries)
        if streams > 1:
            return StreamedSession(opened, streams)
        return BoundSession(opened) if form.options.get("binding") == "bound" else opened


def _options(precision: str, knobs: Mapping[str, str]) -> dict[str, str]:
    options = {"graph_optimization_level": "ORT_ENABLE_ALL", "execution_mode": "ORT_SEQUENTIAL"}
    if precision in QUANTIZED:
        options[_EXACT] = "1"
    if knobs.get("spinning") == "off":
        options["session.intra_op.allow_spinning"] = "0"
    own = {name: knobs[name] for name in ("binding", "streams") if name in knobs}
    return options | own | shared_options(knobs)


class OnnxRuntimeSession(Session):
    """An ONNX graph in ONNX Runtime; with `optimise` off, the reference that other forms are compared with."""

    def __init__(self, path: Path, threads: int, *, optimise: bool, entries: Mapping[str, str] | None = None) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        for key, value in (entries or {}).items():
            options.add_session_config_entry(key, value)
        try:
            self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _translate(error, path) from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def session(self) -> Any:
        """The runtime's own session."""
        return self._session

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        try:
            values = self._session.run(self._outputs, contiguous(inputs))
        except Exception as error:
            raise crashed(_TITLE, "run the graph", error) from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Let the runtime's session go, and with it its threads."""
        self._session = None


class StreamedSession(Session):
    """A session that several threads call at the same time, each call with its part of the threads."""

    def __init__(self, opened: OnnxRuntimeSession, streams: int) -> None:
        self._opened = opened
        self._callers = ThreadPoolExecutor(streams)
        self.requests = streams

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        return self._opened.run(inputs)

    def run_many(self, feeds: Sequence[Mapping[str, Array]]) -> list[Arrays]:
        """Return the outputs of many calls, in order."""
        return list(self._callers.map(self._opened.run, feeds))

    def close(self) -> None:
        """End the callers, and the session that they share."""
        self._callers.shutdown()
        self._opened.close()


class BoundSession(Session):
    """A session that keeps its inputs and outputs in tensors of its own: a call copies into and out of them.

    They are bound anew where the shapes of a feed differ from those of the feed before, which costs one usual call.
    """

    def __init__(self, opened: OnnxRuntimeSession) -> None:
        self._opened = opened
        self._binding: Any = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._held: Arrays = {}
        self._given: Arrays = {}
        self._tensors: list[Any] = []

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        if {name: value.shape for name, value in inputs.items()} != self._shapes:
            return self._bind(inputs)
        try:
            for name, value in inputs.items():
                np.copyto(self._held[name], value, casting="no")
            self._opened.session.run_with_iobinding(self._binding)
        except Exception as error:
            raise crashed(_TITLE, "run the graph", error) from error
        return {name: value.copy() for name, value in self._given.items()}

    def close(self) -> None:
        """Let the bound tensors and the session go."""
        self._binding, self._tensors, self._held, self._given, self._shapes = None, [], {}, {}, {}
        self._opened.close()

    def _bind(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute one feed the usual way, and bind tensors of the shapes that it takes and gives."""
        import onnxruntime as ort

        outputs = self._opened.run(inputs)
        binding = self._opened.session.io_binding()
        self._tensors, self._held, self._given = [], {}, {}
        for name, value in contiguous(inputs).items():
            tensor = ort.OrtValue.ortvalue_from_numpy(value.copy())
            binding.bind_ortvalue_input(name, tensor)
            self._held[name] = tensor.numpy()
            self._tensors.append(tensor)
        for name, value in outputs.items():
            tensor = ort.OrtValue.ortvalue_from_shape_and_type(list(value.shape), value.dtype)
            binding.bind_ortvalue_output(name, tensor)
            self._given[name] = tensor.numpy()
            self._tensors.append(tensor)
        self._binding, self._shapes = binding, {name: value.shape for name, value in self._held.items()}
        return outputs


def _translate(error: Exception, path: Path) -> Exception:
    raw = str(error)
    match = _MISSING_KERNEL.search(raw) or _UNKNOWN_OPERATOR.search(raw)
    if match:
        domain = match["domain"] or ""
        return unsupported_operator(_TITLE, path, match["op"], "" if domain == "ai.onnx" else domain, raw)
    return crashed(_TITLE, "load the graph", error)
