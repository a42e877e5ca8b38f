"""The source of a conversion: the original network, run as it was trained, which packages are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.tensors import Array, Arrays
from engines.tensors.preprocessing import Preprocessing, preprocess
from engines.tensors.signature import Signature

if TYPE_CHECKING:
    import torch


Runner = Callable[[Sequence[Array]], list[Array]]
"""Computes the network's outputs, in order, from its arguments, in order."""


@dataclass(frozen=True)
class SourceGraph:
    """A source as an ONNX file.

    Attributes:
        path: The file, without preprocessing.
        writer: The exporter, for the log.
        constants: Lines of the source's code whose decisions about values the graph holds as constants.
        warnings: Warnings about the graph for the user.
    """

    path: Path
    writer: str
    constants: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorFlowCall:
    """The network of a source as TensorFlow traces it.

    Attributes:
        call: Takes tensors in the order of the inputs, returns those of the outputs in order.
        owner: The object that holds its variables.
    """

    call: Callable[[Sequence[Any]], Sequence[Any]]
    owner: Any


@dataclass(frozen=True)
class Source:
    """A model that was read, and how to compute what it computed before.

    Attributes:
        signature: Its interface.
        make_graph: Writes the ONNX file, which can take minutes; `graph` calls it once, when somebody takes the graph.
        runner: The original.
        module: The torch network; None if the source has none.
        preprocessing: Preprocessing that the package will contain, by input.
        tensorflow: The function of TensorFlow; None if the source has none.
        files: Native files that runtimes can take, by kind: `saved_model`, `caffe`.
        companions: Files that travel with the package, by their path in it: tokenizer, configuration.
        notes: Warnings of the reader.
    """

    signature: Signature
    make_graph: Callable[[], SourceGraph]
    runner: Runner
    module: torch.nn.Module | None
    preprocessing: Mapping[str, Preprocessing]
    tensorflow: TensorFlowCall | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    companions: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def graph(self) -> SourceGraph:
        """The source as an ONNX file, made when it is first asked for.

        Raises:
            EngineFailure: whatever the exporter fails with.
        """
        return self.make_graph()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the reader, and of the graph if it was made."""
        made = self.__dict__.get("graph")
        return (*self.notes, *(made.warnings if made else ()))

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
