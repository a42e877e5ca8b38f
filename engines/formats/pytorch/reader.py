"""Builds networks of state dicts and architectures. Runs the user's code: in the sandboxed child only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.formats.pytorch.checkpoint import load_state_dict
from engines.formats.pytorch.network import build_network
from engines.formats.pytorch.weights import load_weights
from engines.formats.source import Source
from engines.formats.torch_export.module_source import module_source
from engines.spec.template import Component
from engines.tensors import Array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PytorchSource:
    """A trained network: weights, and the code that builds their network.

    Attributes:
        checkpoint: File of `torch.save`.
        architecture: Python file of the architecture.
        class_name: The string that its decorator must carry; any if empty.
        config: YAML or JSON mapping of keyword arguments; none if empty.
        state_dict_key: Key of the checkpoint, as `load_state_dict` takes it.
        num_classes: Passed to the architecture if it is not 0 and the function takes `num_classes`.
        component: Name of the component that it is, for the commands that errors suggest.
    """

    checkpoint: Path
    architecture: Path
    class_name: str = ""
    config: str = ""
    state_dict_key: str = ""
    num_classes: int = 0
    component: str = "model"


def load_network(source: PytorchSource) -> torch.nn.Module:
    """Return the network with its weights, in evaluation mode.

    Raises:
        EngineFailure: INVALID_MODEL, UNSAFE_MODEL, INVALID_ARCHITECTURE, INVALID_SPEC or WEIGHTS_MISMATCH.
    """
    network = build_network(
        source.architecture, class_name=source.class_name, config=source.config, num_classes=source.num_classes
    )
    weights = load_state_dict(
        source.checkpoint, source.state_dict_key, expected=network.state_dict(), component=source.component
    )
    load_weights(network, weights)
    return network.eval().requires_grad_(requires_grad=False)


def read_state_dict(source: PytorchSource, component: Component, arguments: Sequence[Array], onnx_path: Path) -> Source:
    """Return a trained network as a source.

    Raises:
        EngineFailure: as `load_network` and `module_source`.
    """
    return module_source(load_network(source), component, arguments, onnx_path, architecture=source.architecture)
