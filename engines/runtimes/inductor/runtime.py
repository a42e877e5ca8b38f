"""TorchInductor ahead of time on CPUs: the network compiled to a shared library by the C++ compiler of the machine.

`torch.export` → `torch._inductor.aoti_compile_and_package` → `model.pt2`. The library is compiled for a level of x86
(v3 with AVX2, v4 with AVX-512), not for the very processor, so that the package says what it needs: `cpu_capability`.

Knobs: `allocator` tuned keeps freed memory; `threads` bounds the threads.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.inductor.compile_process import compile_program
from engines.runtimes.inductor.opener import CAPABILITY, capability, open_form
from engines.runtimes.knobs import check_knobs, shared_options
from engines.runtimes.protocol import NO_KNOBS, BuildSource, BuiltForm, Session, crashed
from engines.runtimes.session import open_session
from engines.runtimes.torch_networks.exporting import export_program
from engines.runtimes.torch_networks.modules import packaged_network
from engines.runtimes.torch_networks.opener import INPUTS, PACKAGES

_TITLE = "TorchInductor"
_KNOBS: dict[str, tuple[str, ...]] = {"allocator": ("tuned",), "threads": ()}
_COMPILER = "g++"


class InductorBackend:
    """Builds and opens forms that TorchInductor compiled ahead of time."""

    name = "inductor"
    packages: tuple[str, ...] = PACKAGES

    def available(self) -> str | None:
        """Return None when torch is installed, else what is missing; a compiler is needed to build only."""
        return None if importlib.util.find_spec("torch") else "the package `torch`"

    def build(
        self, source: BuildSource, out_dir: Path, precision: str, knobs: Mapping[str, str] = NO_KNOBS
    ) -> BuiltForm:
        """Compile the network to `out_dir/model.pt2`.

        Raises:
            EngineFailure: TOOLCHAIN_UNAVAILABLE where there is no C++ compiler, and as the protocol says.
        """
        check_knobs(_TITLE, knobs, _KNOBS)
        network = packaged_network(_TITLE, source, precision)
        compiler = os.environ.get("CXX", _COMPILER)
        if not shutil.which(compiler):
            raise EngineFailure(
                FailureReason.TOOLCHAIN_UNAVAILABLE,
                f"{_TITLE} compiles C++, and there is no `{compiler}` here.",
                suggested_fix="Install the package `g++` where the worker runs, or choose another runtime.",
            )
        program = export_program(_TITLE, network, source)
        out_dir.mkdir(parents=True, exist_ok=True)
        try:
            compile_program(program, out_dir / "model.pt2")
        except Exception as error:
            raise crashed(_TITLE, "compile the network", error) from error
        options = {INPUTS: json.dumps([spec.name for spec in source.signature.inputs]), CAPABILITY: capability()}
        outputs = tuple(spec.name for spec in source.signature.outputs)
        return BuiltForm(self.name, precision, out_dir, ("model.pt2",), outputs, options | shared_options(knobs))

    def open(self, form: BuiltForm, threads: int) -> Session:
        """Load the compiled library."""
        return open_session(_TITLE, open_form, form, threads)
