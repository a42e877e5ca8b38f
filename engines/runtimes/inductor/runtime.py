"""TorchInductor ahead of time on CPUs: the network compiled to a shared library by the C++ compiler of the machine.

`torch.export` → `torch._inductor.aoti_compile_and_package` → `model.pt2`. The library is compiled for a level of x86
(v3 with AVX2, v4 with AVX-512), not for this one processor; the package states the level: `cpu_capability`.
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
from engines.runtimes.host import HostRuntime
from engines.runtimes.inductor.compile_process import compile_program
from engines.runtimes.inductor.opener import CAPABILITY, capability, open_file
from engines.runtimes.knobs import ALLOCATOR, THREADS, Knob, check_knobs, shared_options
from engines.runtimes.protocol import BuildOptions, BuiltForm, Layer, Runtime, Session
from engines.runtimes.refusals import crashed
from engines.runtimes.session import open_session
from engines.runtimes.source import NETWORK, BuildSource
from engines.runtimes.torch_networks.exporting import export_program
from engines.runtimes.torch_networks.modules import allocator_knobs, packaged_network
from engines.runtimes.torch_networks.opener import INPUTS, PACKAGES
from engines.runtimes.torch_networks.profiling import profiled_layers
from engines.spec.devices import Device
from engines.tensors import Arrays

_TITLE = "TorchInductor"
_KNOBS = (ALLOCATOR, THREADS)
_COMPILER = "g++"


class Inductor(HostRuntime):
    """TorchInductor, ahead of time, on CPUs."""

    name = "inductor"
    title = _TITLE
    packages: tuple[str, ...] = PACKAGES
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
        network = packaged_network(_TITLE, source, precision)
        compiler = os.environ.get("CXX", _COMPILER)
        if not shutil.which(compiler):
            raise EngineFailure(
                FailureReason.TOOLCHAIN_UNAVAILABLE,
                f"{_TITLE} compiles C++, and there is no `{compiler}` here.",
                suggested_fix="Install the package `g++` on the worker, or choose another runtime.",
            )
        program = export_program(_TITLE, network, source)
        out_dir.mkdir(parents=True, exist_ok=True)
        try:
            compile_program(program, out_dir / "model.pt2")
        except Exception as error:
            raise crashed(_TITLE, "compile the network", error) from error
        stated = {INPUTS: json.dumps([spec.name for spec in source.signature.inputs]), CAPABILITY: capability()}
        outputs = tuple(spec.name for spec in source.signature.outputs)
        stated |= shared_options(knobs)
        return BuiltForm(self.name, target.id, precision, out_dir, ("model.pt2",), outputs, stated)

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Load the compiled library."""
        return open_session(_TITLE, open_file, form, threads)

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return the operators that torch's profiler sees."""
        return profiled_layers(lambda: open_file(str(form.entry), form.options, threads), feed)

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the compiled network: it wins if no other runtime takes the graph, and with unusual ones."""
        if now.has_module and now.allows_half:
            yield Candidate(FormSpec(self.name, "BF16", knobs=allocator_knobs(now)), 37)
        if now.has_module:
            yield Candidate(FormSpec(self.name, "FP32", knobs=allocator_knobs(now)), 36)


RUNTIME: Runtime = Inductor()
