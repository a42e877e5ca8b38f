"""The source of a conversion as the truth that its package is held to: the original network, run as it was trained.

Preprocessing that will be baked into the graph is done here in NumPy, by other code than that which bakes it in, so
that parity proves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engines.tensors import Array, Arrays
from engines.tensors.preprocessing import Preprocessing, preprocess
from engines.tensors.signature import Signature

if TYPE_CHECKING:
    import torch


Runner = Callable[[Sequence[Array]], list[Array]]
"""Computes the network's outputs, in order, from its arguments, in order."""


@dataclass(frozen=True)
class Source:
    """A model read into ONNX, and how to compute what it computed before.

    Attributes:
        onnx_path: The graph, without preprocessing.
        signature: Its interface.
        reader: What wrote the graph, for the log.
        runner: The original.
        module: The torch network behind it; None where the source is a graph already.
        preprocessing: What will be baked in, by input.
        constants: Lines of the source's code whose decisions about values the graph holds as constants.
        companions: Files that travel with the package, by their path in it: tokenizer, configuration.
        warnings: What a user should know of the reading: what the source offers and the package does not.
    """

    onnx_path: Path
    signature: Signature
    reader: str
    runner: Runner
    module: torch.nn.Module | None
    preprocessing: Mapping[str, Preprocessing]
    constants: tuple[str, ...] = ()
    companions: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def arguments(self, feed: Mapping[str, Array]) -> list[Array]:
        """Return the network's arguments for a feed of the package: preprocessed, in the order of `forward`."""
        none = Preprocessing()
        return [
            preprocess(feed[spec.name], self.preprocessing.get(spec.name, none), spec.dtype)
            for spec in self.signature.inputs
        ]

    def run(self, feed: Mapping[str, Array]) -> Arrays:
        """Return the original's outputs, by name, for a feed of the package."""
        values = self.runner(self.arguments(feed))
        return {spec.name: value for spec, value in zip(self.signature.outputs, values, strict=True)}
