"""The process in which one peer runs: that of the engines' own forms, opened otherwise.

Threads are those that each runtime takes by itself: all cores.

    eager, frozen, compile   the network: as it is; traced and frozen; by TorchInductor, compiled before it is timed
    frozen-bf16              the network in bfloat16, traced and frozen
    onnxruntime              an ONNX file
    openvino, openvino-f32   an ONNX file, with no hint; with float32 asked for
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.runtimes.protocol import BuiltForm, Session
from engines.tensors import Array, Arrays
from engines.timing.process_main import main

if TYPE_CHECKING:
    import torch


class Peer(Session):
    """One peer has a process to itself, whose end is its own."""

    def close(self) -> None:
        """Do nothing."""


class TorchPeer(Peer):
    """Torch's ways of computing a network of the zoo."""

    def __init__(self, form: BuiltForm) -> None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = form.options["cache"]
        import torch

        from tests.bench.optimizer.zoo import ZOO

        network = ZOO[form.options["model"]].network()
        network.load_state_dict(torch.load(form.entry, weights_only=True))
        self._half = form.runtime == "frozen-bf16"
        self._outputs = form.outputs
        if self._half:
            network = network.to(torch.bfloat16)
        example = self._tensors(_first(np.load(form.options["feed"])))
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what users run
        self._call: Callable[..., Any] = _WAYS[form.runtime.removesuffix("-bf16")](network, example)

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        import torch

        with torch.inference_mode():
            output = self._call(*self._tensors(inputs))
        return {self._outputs[0]: (output.float() if self._half else output).numpy()}

    def _tensors(self, inputs: Mapping[str, Array]) -> tuple[torch.Tensor, ...]:
        import torch

        found = tuple(torch.from_numpy(array) for array in inputs.values())
        return tuple(each.bfloat16() if each.is_floating_point() else each for each in found) if self._half else found


def _first(loaded: Any) -> Arrays:
    with loaded:
        return {key.removeprefix("0/"): loaded[key] for key in loaded.files if key.startswith("0/")}


def _eager(network: Any, _example: tuple[torch.Tensor, ...]) -> Any:
    return network


def _frozen(network: Any, example: tuple[torch.Tensor, ...]) -> Any:
    import torch

    jit: Any = torch.jit
    with torch.inference_mode():
        return jit.freeze(jit.trace(network, example, check_trace=False))


def _compiled(network: Any, example: tuple[torch.Tensor, ...]) -> Any:
    import torch

    call: Any = torch.compile(network)
    with torch.inference_mode():
        call(*example)
    return call


_WAYS: dict[str, Callable[..., Any]] = {"eager": _eager, "frozen": _frozen, "compile": _compiled}


class OnnxRuntimePeer(Peer):
    """A session with no options."""

    def __init__(self, form: BuiltForm) -> None:
        import onnxruntime as ort

        self._session = ort.InferenceSession(str(form.entry), providers=["CPUExecutionProvider"])
        self._outputs = form.outputs

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        return dict(zip(self._outputs, self._session.run(None, dict(inputs)), strict=True))


class OpenVinoPeer(Peer):
    """A model compiled with no options, or with the precision alone."""

    def __init__(self, form: BuiltForm) -> None:
        import openvino as ov

        config = {"INFERENCE_PRECISION_HINT": "f32"} if form.runtime == "openvino-f32" else {}
        self._compiled: Any = ov.Core().compile_model(str(form.entry), "CPU", config)
        self._outputs = form.outputs

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        return dict(zip(self._outputs, self._compiled(dict(inputs)).values(), strict=True))


def open_peer(form: BuiltForm, _threads: int) -> Session:
    """Open a peer as its user would."""
    if form.runtime == "onnxruntime":
        return OnnxRuntimePeer(form)
    return OpenVinoPeer(form) if form.runtime.startswith("openvino") else TorchPeer(form)


if __name__ == "__main__":
    main(int(sys.argv[1]), open_peer)
