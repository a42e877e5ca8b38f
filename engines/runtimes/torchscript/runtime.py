"""TorchScript on CPUs and NVIDIA GPUs: the network traced and frozen, as users run it before they convert.

It is the baseline of every latency table, and a target of its own if a network wins with it: in BF16, channels last. A
package holds the frozen program, which is optimized when it is loaded. With `mode` eager, the program holds the network
as `torch.export` writes it and runs operator by operator: the last resort for networks that cannot be traced.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.failures import EngineFailure, FailureReason, first_line
from engines.runtimes.candidates import Candidate, Situation
from engines.runtimes.form import FormSpec
from engines.runtimes.knobs import ALLOCATOR, THREADS, Knob, check_knobs, shared_options
from engines.runtimes.protocol import BuildOptions, BuiltForm, Layer, Runtime, Session
from engines.runtimes.refusals import crashed
from engines.runtimes.session import OpenedSession, open_session
from engines.runtimes.source import NETWORK, BuildSource
from engines.runtimes.torch_networks.decisions import decision_warnings, decisions
from engines.runtimes.torch_networks.exporting import export_program
from engines.runtimes.torch_networks.modules import allocator_knobs, example_of, packaged_network
from engines.runtimes.torch_networks.opener import COMPUTES_ON, CPU, INPUTS, TorchForm
from engines.runtimes.torch_networks.profiling import profiled_layers
from engines.runtimes.torch_networks.runtime import TorchRuntime, half_precisions
from engines.runtimes.torch_networks.state import kept_state
from engines.runtimes.torchscript.opener import open_file
from engines.sandbox.tasklog import quiet
from engines.spec.devices import Device
from engines.tensors import Array, Arrays

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TITLE = "TorchScript"
_KNOBS = (
    Knob(
        "graph",
        "most networks: the program is optimized for the machine that loads it",
        {"inference": "optimized for inference"},
    ),
    Knob("layout", "convolutions in half precision", {"channels_last": "channels last"}),
    Knob("mode", "networks that cannot be traced: they run operator by operator", {"eager": "eager"}),
    ALLOCATOR,
    THREADS,
)


class TorchScript(TorchRuntime):
    """TorchScript's interpreter."""

    name = "torchscript"
    title = _TITLE
    modules: tuple[str, ...] = ("torch",)
    takes: tuple[str, ...] = (NETWORK,)
    knobs: tuple[Knob, ...] = _KNOBS

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Write the network as `out_dir/model.pt`, frozen, or as `out_dir/model.pt2` in eager mode."""
        import torch

        precision, knobs = options.precision, options.knobs
        check_knobs(_TITLE, knobs, _KNOBS)
        channels_last = knobs.get("layout") == "channels_last"
        on = self.compute_on(target, precision)
        network = packaged_network(_TITLE, source, precision, channels_last=channels_last, on=on)
        out_dir.mkdir(parents=True, exist_ok=True)
        decided: dict[str, None] = {}
        eager = knobs.get("mode") == "eager"
        path = out_dir / ("model.pt2" if eager else "model.pt")
        try:
            if eager:
                torch.export.save(export_program(_TITLE, network, source, on), path)
            else:
                example = example_of(source, on)
                fixed = not any(spec.dynamic_axes for spec in source.signature.inputs)
                with decisions(len(example), fixed_shapes=fixed) as decided:
                    program = frozen(network, example)
                torch.jit.save(program, str(path))
        except EngineFailure:
            raise
        except Exception as error:
            raise crashed(_TITLE, "write the network", error) from error
        stated = {INPUTS: json.dumps([spec.name for spec in source.signature.inputs]), **shared_options(knobs)}
        stated |= {name: knobs[name] for name in ("graph", "mode") if name in knobs}
        stated |= {} if on == CPU else {COMPUTES_ON: on}
        outputs = tuple(spec.name for spec in source.signature.outputs)
        told = decision_warnings(tuple(decided))
        return BuiltForm(self.name, target.id, precision, out_dir, (path.name,), outputs, stated, told)

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Load the program."""
        return open_session(_TITLE, open_file, form, threads)

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return the operators that torch's profiler sees."""
        on = form.options.get(COMPUTES_ON, CPU)
        return profiled_layers(lambda: open_file(str(form.entry), form.options, threads), feed, on)

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the frozen network: it wins if no other runtime takes the graph, and with unusual ones."""
        if not now.has_module:
            return
        kept = allocator_knobs(now)
        yield Candidate(FormSpec(self.name, "FP32", knobs=(("graph", "inference"), *kept)), 39)
        layout = (("layout", "channels_last"),) if now.has_images else ()
        for later, precision in enumerate(half_precisions(now, self.name)):
            yield Candidate(FormSpec(self.name, precision, knobs=(*layout, *kept)), 38 - later / 2)

    def baselines(self, now: Situation) -> Iterator[Candidate]:
        """Yield the network frozen, as users run it; and eager, if the frozen one does not compute the same."""
        if now.has_module:
            yield Candidate(FormSpec(self.name, "FP32"), 20)
            yield Candidate(FormSpec(self.name, "FP32", knobs=(("mode", "eager"),)), 10)


RUNTIME: Runtime = TorchScript()


def frozen(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> torch.jit.ScriptModule:
    """Return the module traced and frozen.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED if it cannot be traced.
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
        EngineFailure: TOOLCHAIN_CRASHED if the module cannot be traced.
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
        super().__init__(_TITLE, TorchForm(frozen(module, arguments), inputs), outputs)
