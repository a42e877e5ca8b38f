"""What the rooms of TensorRT and TensorRT-RTX share: a graph becomes a plan, which runs on its chip alone."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.graph.hygiene import load_model, save_model
from engines.graph.precision import half_elements, stated_graph, to_half
from engines.runtimes import module_of
from engines.runtimes.candidates import Candidate, Situation
from engines.runtimes.form import OPEN_QUANTIZER, FormSpec
from engines.runtimes.host import PROFILED_RUNS
from engines.runtimes.knobs import Knob, check_knobs
from engines.runtimes.nvidia.gpus import gpu_environment, gpus, missing_gpu, unavailable
from engines.runtimes.protocol import BuildOptions, BuiltForm, Integers, Layer, Session, Where
from engines.runtimes.refusals import crashed
from engines.runtimes.session import open_session
from engines.runtimes.source import GRAPH, BuildSource
from engines.runtimes.tensorrt_plans import opener
from engines.runtimes.tensorrt_plans.builder import PlanRequest, build_plan
from engines.runtimes.tensorrt_plans.knobs import CUDA_GRAPH, HARDWARE, VERSIONS
from engines.runtimes.tensorrt_plans.vendor import names_targets
from engines.runtimes.timings import read_timings, write_timings
from engines.spec.devices import Device
from engines.spec.toolchain import version_of, versions
from engines.tensors import Arrays

PLAN = "model.plan"
"""File of a plan, under the name that Triton looks for."""


class PlanRuntime:
    """A runtime whose forms are plans.

    Attributes:
        modules: The vendor's module.
        keeps_timings: Whether it times kernels while it builds, so that a timing cache spares work.
        promise: Added to the promise of its candidates, so that no two runtimes' are equal.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    knobs: tuple[Knob, ...]
    promise: float
    keeps_timings = False
    takes: tuple[str, ...] = (GRAPH,)
    integers: Integers | None = Integers(signed=True, block=64)

    def available(self, device: Device | None = None) -> str | None:
        """Return None if the runtime is installed, else what is missing. Imports no framework."""
        for module, package in ((self.modules[0], self.packages[0]), ("cuda", "cuda-bindings")):
            if not importlib.util.find_spec(module):
                return f"the package `{package}`"
        return None

    def version(self) -> str:
        """Return the version of the first package."""
        return version_of(self.packages[0])

    def where(self, device: Device) -> Where:
        """Return HERE if the first GPU of this machine is of the device's architecture."""
        return Where.DEVICE if missing_gpu(device) else Where.HERE

    def runs_on(self, device: Device) -> str:
        """Return the name of the GPU here that forms for a device run on; empty if there is none."""
        return "" if missing_gpu(device) else gpus().found[0].name

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Write the plan of the graph as `out_dir/model.plan`.

        The graph states what is computed in which type: FP16 and BF16 are written into it, INT8 is in it already.
        Inputs and outputs stay float32.
        """
        check_knobs(self.title, options.knobs, self.knobs)
        source.form_for(self.title, self.takes)
        trt = self._vendor()
        missing = missing_gpu(target)
        if missing and not names_targets(trt):
            raise unavailable(self.title, target, missing)
        out_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            graph = _stated(source.graph(), options.precision, Path(folder))
            architecture = target.architecture
            asked = PlanRequest(
                self.title, graph, source.signature, options.precision, architecture, options.knobs, options.progress
            )
            plan = self._built(trt, asked, options.timings)
        (out_dir / PLAN).write_bytes(plan)
        outputs = tuple(spec.name for spec in source.signature.outputs)
        stated = self._stated_options(trt, target, options)
        return BuiltForm(self.name, target.id, options.precision, out_dir, (PLAN,), outputs, stated)

    def _built(self, trt: Any, asked: PlanRequest, folder: Path | None) -> bytes:
        """Return the plan; what is timed for it goes to the folder, and what was timed before is not timed again."""
        if folder is None or not self.keeps_timings:
            return build_plan(trt, asked)[0]
        plan, timings = build_plan(trt, asked, read_timings(folder, self.name))
        write_timings(folder, self.name, timings)
        return plan

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Open the plan on this machine's GPU."""
        opened = importlib.import_module(module_of(self.name, "opener"))
        return open_session(self.title, opened.open_file, form, threads, self._unopened)

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return the layers of the plan, each one or several nodes, as the runtime's profiler lists them."""
        trt = self._vendor()
        times: dict[str, list[float]] = {}

        class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined] # the base is known when the vendor's module is
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, name: str, milliseconds: float) -> None:
                times.setdefault(name, []).append(milliseconds)

        opened: Any = opener.open_plan(trt, str(form.entry), form.options)
        profiler = Profiler()
        try:
            for _ in range(PROFILED_RUNS + 1):
                opened.profiled(feed, profiler)
        finally:
            opened.close()
        return [Layer(name, "", median(found[1:])) for name, found in times.items() if len(found) > 1]

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the graph in every precision that is allowed, and quantized."""
        if now.allows_half:
            yield Candidate(FormSpec(self.name, "FP16"), 83 + self.promise)
            yield Candidate(FormSpec(self.name, "BF16"), 82 + self.promise)
        yield Candidate(FormSpec(self.name, "FP32"), 81 + self.promise)
        if now.quantizes:
            yield Candidate(FormSpec(self.name, "INT8", OPEN_QUANTIZER), 65 + self.promise)

    def baselines(self, now: Situation) -> Iterable[Candidate]:
        """Yield nothing: what the source computes is known from what runs it as it is."""
        return ()

    def environment(self, target: Device) -> dict[str, str]:
        """Return the versions of what builds and runs; the GPU and its driver if it is here."""
        return versions(self.packages) | gpu_environment(target)

    def _vendor(self) -> Any:
        """Return the vendor's module.

        Raises:
            EngineFailure: TOOLCHAIN_UNAVAILABLE if it does not load.
        """
        try:
            return importlib.import_module(self.modules[0])
        except ImportError as error:
            raise EngineFailure(
                FailureReason.TOOLCHAIN_UNAVAILABLE,
                f"{self.title} does not load: {first_line(error)}",
                suggested_fix=f"Install {' '.join(self.packages)} on the worker.",
            ) from error

    def _stated_options(self, trt: Any, target: Device, options: BuildOptions) -> dict[str, str]:
        """Return the options of a form: what it takes to run it, and how."""
        names = (CUDA_GRAPH.name, VERSIONS.name, HARDWARE.name)
        kept = {name: options.knobs[name] for name in names if name in options.knobs}
        return {opener.ARCHITECTURE: target.architecture, opener.VERSION: str(trt.__version__)} | kept

    def _unopened(self, error: Exception) -> EngineFailure:
        return crashed(self.title, "open the plan", error)


def _stated(onnx_path: Path, precision: str, out_dir: Path) -> Path:
    """Return a graph whose types state the precision."""
    if precision != "BF16":
        return stated_graph(onnx_path, precision, out_dir)
    model = load_model(onnx_path)
    if "BF16" in half_elements(model):
        return onnx_path
    return save_model(to_half(model, "BF16"), out_dir / "model.onnx")[0]
