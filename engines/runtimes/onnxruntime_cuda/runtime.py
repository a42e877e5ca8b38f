"""ONNX Runtime on NVIDIA's GPUs: the graph as it is, optimized when it is loaded.

What the CUDA provider has no kernel for runs on the processor, with copies in between. FP16 is computed in half
precision. Quantized graphs gain nothing: the provider has few kernels for integers. TensorRT takes these.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engines.graph.precision import stated_graph
from engines.runtimes.candidates import Candidate, Situation
from engines.runtimes.form import FormSpec
from engines.runtimes.host import HostRuntime
from engines.runtimes.knobs import Knob, check_knobs
from engines.runtimes.nvidia.gpus import gpu_environment, gpu_for, missing_gpu
from engines.runtimes.onnxruntime.graph_files import placed_graph
from engines.runtimes.onnxruntime.refusals import translated
from engines.runtimes.onnxruntime.transformer_graph import fused_graph
from engines.runtimes.onnxruntime_cuda.opener import PACKAGES, open_file
from engines.runtimes.protocol import BuildOptions, BuiltForm, Runtime, Session, Where
from engines.runtimes.refusals import unsupported_precision
from engines.runtimes.session import open_session
from engines.runtimes.source import GRAPH, BuildSource
from engines.spec.devices import Device
from engines.spec.toolchain import version_of

_TITLE = "ONNX Runtime's CUDA provider"
_KNOBS = (
    Knob("graph", "transformers: attention and its neighbours become one operator", {"transformer": "fused attention"}),
)


class OnnxRuntimeCuda(HostRuntime):
    """ONNX Runtime's CUDA provider."""

    name = "onnxruntime-cuda"
    title = _TITLE
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = ("onnxruntime",)
    takes: tuple[str, ...] = (GRAPH,)
    knobs: tuple[Knob, ...] = _KNOBS

    def available(self, device: Device | None = None) -> str | None:
        """Return None if the build of ONNX Runtime for GPUs is installed, else what is missing."""
        return None if version_of(PACKAGES[0]) else f"the package `{PACKAGES[0]}`"

    def where(self, device: Device) -> Where:
        """Return HERE on a machine with the device's kind of GPU and the provider."""
        return Where.DEVICE if self.available() or missing_gpu(device) else Where.HERE

    def runs_on(self, device: Device) -> str:
        """Return the name of the GPU if forms run on it here."""
        gpu = gpu_for(device)
        return gpu.name if gpu and self.where(device) is Where.HERE else ""

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Write the graph, with its external data, to `out_dir/model.onnx`; this needs no GPU."""
        precision, knobs = options.precision, options.knobs
        check_knobs(_TITLE, knobs, _KNOBS)
        source.form_for(_TITLE, self.takes)
        offered = target.runtimes[self.name].precisions
        if precision not in offered:
            why = f"the catalog lists {', '.join(offered)} for it on {target.id}."
            raise unsupported_precision(_TITLE, precision, why, "TensorRT may offer it.")
        out_dir.mkdir(parents=True, exist_ok=True)
        graph = stated_graph(source.graph(), precision, out_dir)
        if knobs.get("graph") == "transformer":
            graph = fused_graph(graph, out_dir / "model.onnx")
        files = placed_graph(graph, out_dir)
        outputs = tuple(spec.name for spec in source.signature.outputs)
        return BuiltForm(self.name, target.id, precision, out_dir, files, outputs)

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Load the graph with every optimisation on."""
        return open_session(_TITLE, open_file, form, threads, lambda error: translated(_TITLE, error, form.entry))

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the graph itself, in half precision if it is allowed, and with fused attention."""
        precisions = ("FP16", "FP32") if now.allows_half else ("FP32",)
        for later, precision in enumerate(precisions):
            yield Candidate(FormSpec(self.name, precision), 80.5 - later / 4)
        if now.is_transformer:
            yield Candidate(FormSpec(self.name, precisions[0], knobs=(("graph", "transformer"),)), 50)

    def baselines(self, now: Situation) -> Iterator[Candidate]:
        """Yield the graph itself: the baseline of graphs, and of networks that no other runtime runs."""
        if not now.is_quantized:
            yield Candidate(FormSpec(self.name, "FP32"), 0)

    def environment(self, target: Device) -> dict[str, str]:
        """Return the versions of what runs, the GPU and its driver."""
        return super().environment(target) | gpu_environment(target)


RUNTIME: Runtime = OnnxRuntimeCuda()
