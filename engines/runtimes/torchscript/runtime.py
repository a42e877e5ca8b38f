"""TorchScript on CPUs: the network traced and frozen, as users run it before they convert.

It is the baseline of every latency table, and a target of its own where a network wins with it: in BF16, channels last.
A package holds the frozen program, which is optimised where it is loaded. The program in `mode` eager holds the network
as `torch.export` writes it, and runs operator by operator: what is left for networks that cannot be traced.

Knobs: `graph` inference optimises the frozen program for this machine; `layout` channels_last; `mode` eager;
`allocator` tuned keeps freed memory; `threads` bounds the threads.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.failures import EngineFailure, FailureReason, first_line
from engines.runtimes.knobs import check_knobs, shared_options
from engines.runtimes.protocol import NO_KNOBS, BuildSource, BuiltForm, Session, crashed
from engines.runtimes.session import OpenedSession, open_session
from engines.runtimes.torch_networks.exporting import export_program
from engines.runtimes.torch_networks.modules import example_of, packaged_network
from engines.runtimes.torch_networks.opener import INPUTS, PACKAGES, Network
from engines.runtimes.torch_networks.state import kept_state
from engines.runtimes.torchscript.opener import open_form
from engines.sandbox.tasklog import quiet
from engines.tensors import Array

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TITLE = "TorchScript"
_KNOBS = {
    "graph": ("inference",),
    "layout": ("channels_last",),
    "mode": ("eager",),
    "allocator": ("tuned",),
    "threads": (),
}


class TorchScriptBackend:
    """Builds and opens forms for TorchScript's interpreter on CPUs."""

    name = "torchscript"
    packages: tuple[str, ...] = PACKAGES

    def available(self) -> str | None:
        """Return None when torch is installed, else what is missing."""
        return None if importlib.util.find_spec("torch") else "the package `torch`"

    def build(
        self, source: BuildSource, out_dir: Path, precision: str, knobs: Mapping[str, str] = NO_KNOBS
    ) -> BuiltForm:
        """Write the network as `out_dir/model.pt`, frozen, or as `out_dir/model.pt2` in eager mode."""
        import torch

        check_knobs(_TITLE, knobs, _KNOBS)
        channels_last = knobs.get("layout") == "channels_last"
        network = packaged_network(_TITLE, source, precision, channels_last=channels_last)
        out_dir.mkdir(parents=True, exist_ok=True)
        eager = knobs.get("mode") == "eager"
        path = out_dir / ("model.pt2" if eager else "model.pt")
        try:
            if eager:
                torch.export.save(export_program(_TITLE, network, source), path)
            else:
                torch.jit.save(frozen(network, example_of(source)), str(path))
        except EngineFailure:
            raise
        except Exception as error:
            raise crashed(_TITLE, "write the network", error) from error
        options = {INPUTS: json.dumps([spec.name for spec in source.signature.inputs]), **shared_options(knobs)}
        options |= {name: knobs[name] for name in ("graph", "mode") if name in knobs}
        outputs = tuple(spec.name for spec in source.signature.outputs)
        return BuiltForm(self.name, precision, out_dir, (path.name,), outputs, options)

    def open(self, form: BuiltForm, threads: int) -> Session:
        """Load the program."""
        return open_session(_TITLE, open_form, form, threads)


def frozen(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> torch.jit.ScriptModule:
    """Return the module traced and frozen.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED where it cannot be traced.
    """
    import torch

    jit: Any = torch.jit
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what users run
            with kept_state(module), quiet(log):
                traced = jit.trace(module, example, check_trace=False)
            made: torch.jit.ScriptModule = jit.freeze(traced)
    except Exception as error:
        log.info("TorchScript cannot trace the network", exc_info=error)
        raise EngineFailure(
            FailureReason.TOOLCHAIN_CRASHED,
            f"TorchScript cannot trace the network: {first_line(error)}",
            evidence=str(error).strip()[-1000:],
            suggested_fix="Other forms do not depend on it; the task's log has the whole message.",
        ) from error
    return made


class TorchScriptSession(OpenedSession):
    """A traced and frozen module on the CPU, without files.

    Args:
        module: Takes the inputs in order and returns a tuple of the outputs in order.
        inputs: Names of the inputs, in the order of `forward`.
        outputs: Names of the outputs, in order.
        example: A feed to trace with.
        threads: Threads of each operator.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED where the module cannot be traced.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: Sequence[str],
        outputs: Sequence[str],
        example: Mapping[str, Array],
        threads: int,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        arguments = tuple(torch.from_numpy(np.array(example[name], order="C")) for name in inputs)
        super().__init__(_TITLE, Network(frozen(module, arguments), inputs), outputs)
