"""Reads a detector as a source: its raw heads as a network, and its configuration beside the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engines.formats.detectors.two_stage import check_batch
from engines.formats.source import Source
from engines.formats.torch_export.module_source import module_source
from engines.spec.template import Component
from engines.tensors import Array

if TYPE_CHECKING:
    import torch


class RawHeads(Protocol):
    """A detector with its weights: its network, the names of the network's outputs, and whether it has two stages."""

    @property
    def network(self) -> torch.nn.Module:
        """Takes images, returns raw heads."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the network returns."""

    @property
    def two_stage(self) -> bool:
        """Whether the network has proposals."""


def heads_source(
    heads: RawHeads,
    config: Path,
    component: Component,
    arguments: Sequence[Array],
    onnx_path: Path,
    *,
    architecture: Path | None = None,
) -> Source:
    """Return the raw heads of a detector as a source.

    Args:
        heads: The detector.
        config: Its configuration, which travels with the package.
        component: The component.
        arguments: Example inputs.
        onnx_path: Where a graph of it is written.
        architecture: The file with code of the user, which failures name; None if there is none.

    Raises:
        EngineFailure: INVALID_SPEC for a batch of a detector of two stages; as `module_source`.
    """
    if heads.two_stage:
        check_batch(component)
    source = module_source(
        heads.network,
        component,
        arguments,
        onnx_path,
        output_names=heads.outputs,
        architecture=architecture,
        companions={f"configuration/{config.name}": config},
    )
    # Suppression and pooling are operators of torchvision, which what serves a torch network does not have.
    return replace(source, module=None) if heads.two_stage else source
