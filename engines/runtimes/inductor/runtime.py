"""TorchInductor ahead of time: the network compiled to a shared library by the C++ compiler of the machine.

`torch.export` → `torch._inductor.aoti_compile_and_package` → `model.pt2`. The library is compiled for a level of x86
(v3 with AVX2, v4 with AVX-512), not for this one processor; the package states the level: `cpu_capability`. For a
GPU, Triton compiles kernels for its architecture, which the package states: `gpu_architecture`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.candidates import Candidate, Situation
from engines.runtimes.form import FormSpec
from engines.runtimes.inductor.compile_process import compile_program, cuda_home
from engines.runtimes.inductor.opener import ARCHITECTURE, CAPABILITY, capability, open_file
from engines.runtimes.knobs import ALLOCATOR, THREADS, Knob, check_knobs, shared_options
from engines.runtimes.nvidia.gpus import unavailable
from engines.runtimes.protocol import BuildOptions, BuiltForm, Layer, Runtime, Session
from engines.runtimes.refusals import crashed
from engines.runtimes.session import open_session
from engines.runtimes.source import NETWORK, BuildSource
from engines.runtimes.torch_networks.exporting import export_program
from engines.runtimes.torch_networks.modules import allocator_knobs, packaged_network
from engines.runtimes.torch_networks.opener import COMPUTES_ON, CPU, INPUTS
from engines.runtimes.torch_networks.profiling import profiled_layers
from engines.runtimes.torch_networks.runtime import TorchRuntime, half_precisions
from engines.spec.devices import Device
from engines.tensors import Arrays

_TITLE = "TorchInductor"
_KNOBS = (ALLOCATOR, THREADS)
_COMPILER = "g++"


class Inductor(TorchRuntime):
    """TorchInductor, ahead of time."""

    name = "inductor"
    title = _TITLE
    modules: tuple[str, ...] = ("torch.export",)
    takes: tuple[str, ...] = (NETWORK,)
    knobs: tuple[Knob, ...] = _KNOBS

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Compile the network to `out_dir/model.pt2`.

        Raises:
            EngineFailure: TOOLCHAIN_UNAVAILABLE if there is no C++ compiler, and as the protocol says.
        """
        precision, knobs = options.precision, options.knobs
        check_knobs(_TITLE, knobs, _KNOBS)
        on = self.compute_on(target, precision)
        network = packaged_network(_TITLE, source, precision, on=on)
        compiler = os.environ.get("CXX", _COMPILER)
        if not shutil.which(compiler):
            raise EngineFailure(
                FailureReason.TOOLCHAIN_UNAVAILABLE,
                f"{_TITLE} compiles C++, and there is no `{compiler}` here.",
                suggested_fix="Install the package `g++` on the worker, or choose another runtime.",
            )
        if on != CPU and cuda_home() is None:
            raise unavailable(
                _TITLE, target, "CUDA's headers: `pip install cuda-toolkit[cudart,crt,cccl]`, or CUDA_HOME of a toolkit"
            )
        program = export_program(_TITLE, network, source, on)
        out_dir.mkdir(parents=True, exist_ok=True)
        try:
            compile_program(program, out_dir / "model.pt2")
        except Exception as error:
            raise crashed(_TITLE, "compile the network", error) from error
        stated = {INPUTS: json.dumps([spec.name for spec in source.signature.inputs])}
        stated |= {CAPABILITY: capability()} if on == CPU else {COMPUTES_ON: on, ARCHITECTURE: target.architecture}
        outputs = tuple(spec.name for spec in source.signature.outputs)
        stated |= shared_options(knobs)
        return BuiltForm(self.name, target.id, precision, out_dir, ("model.pt2",), outputs, stated)

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Load the compiled library."""
        return open_session(_TITLE, open_file, form, threads)

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return the operators that torch's profiler sees."""
        on = form.options.get(COMPUTES_ON, CPU)
        return profiled_layers(lambda: open_file(str(form.entry), form.options, threads), feed, on)

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the compiled network: it wins if no other runtime takes the graph, and with unusual ones."""
        if not now.has_module:
            return
        for later, precision in enumerate(half_precisions(now, self.name)):
            yield Candidate(FormSpec(self.name, precision, knobs=allocator_knobs(now)), 37 - later / 2)
        yield Candidate(FormSpec(self.name, "FP32", knobs=allocator_knobs(now)), 36)


RUNTIME: Runtime = Inductor()
