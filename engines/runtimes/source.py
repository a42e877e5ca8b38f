"""The source that forms are built from: it offers several forms, of which a runtime takes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from engines.failures import EngineFailure, FailureReason
from engines.tensors import Array
from engines.tensors.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import torch

    from engines.tensors.preprocessing import Preprocessing

GRAPH = "graph"
"""The form of a source that is an ONNX file, its preprocessing in the graph."""
NETWORK = "network"
"""The form of a source that is a torch network."""
FUNCTION = "function"
"""The form of a source that is a function of TensorFlow."""


@dataclass(frozen=True)
class Network:
    """A torch network, and what it takes to run it as the package does.

    Attributes:
        module: Takes its inputs in order, returns a tuple of the outputs in order.
        preprocessing: The preprocessing of the package before the network, by input.
        example: A feed of the package to trace the module with.
    """

    module: torch.nn.Module
    preprocessing: Mapping[str, Preprocessing] = field(default_factory=dict)
    example: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Unprocessed:
    """A source without the preprocessing of its package, for runtimes that carry it out in their own way.

    Attributes:
        make_graph: Returns the ONNX file.
        inputs: The network's inputs, in the order of the package's.
        preprocessing: What the package does before the network, by input; those with something to do alone.
    """

    make_graph: Callable[[], Path]
    inputs: tuple[TensorSpec, ...]
    preprocessing: Mapping[str, Preprocessing]


@dataclass(frozen=True)
class Function:
    """A function of TensorFlow, and what it takes to run it as the package does.

    Attributes:
        call: Takes tensors in the order of the network's inputs, returns those of its outputs in order; it can be
            traced.
        owner: The object that holds its variables.
        dtypes: Element type of each argument.
        preprocessing: The preprocessing of the package before the network, by input.
    """

    call: Callable[[Sequence[Any]], Sequence[Any]]
    owner: Any
    dtypes: Sequence[str]
    preprocessing: Mapping[str, Preprocessing] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildSource:
    """The forms in which a source can be built. A runtime takes one of them; the graph is made only if it is taken.

    Attributes:
        signature: Interface of the package.
        make_graph: Returns the ONNX file with preprocessing in it; None if the source cannot become a graph.
        network: The torch network; None if the source has none.
        files: Native forms by kind, each a file or a folder: `saved_model`, `caffe`, `xml` for OpenVINO's IR.
        unprocessed: The source without preprocessing; None if it is known with it alone.
        function: The function of TensorFlow; None if the source has none.
    """

    signature: Signature
    make_graph: Callable[[], Path] | None = None
    network: Network | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    unprocessed: Unprocessed | None = None
    function: Function | None = None

    @classmethod
    def of_file(cls, path: Path, signature: Signature) -> Self:
        """Return the source of a file: an ONNX graph, or a native form whose kind is the file's suffix."""
        if path.suffix == ".onnx":
            return cls(signature, lambda: path)
        return cls(signature, files={path.suffix.removeprefix("."): path})

    @property
    def offers(self) -> tuple[str, ...]:
        """Names of the forms in which it can be built."""
        own = {GRAPH: self.make_graph, NETWORK: self.network, FUNCTION: self.function}
        return (*(name for name, form in own.items() if form is not None), *self.files)

    def graph(self) -> Path:
        """Return the ONNX file; this may take as long as an export takes.

        Raises:
            EngineFailure: INVALID_SPEC if the source cannot become a graph, and what an export raises.
        """
        if self.make_graph is None:
            raise EngineFailure(FailureReason.INVALID_SPEC, f"The source has no ONNX graph; {self._offered()}")
        return self.make_graph()

    def form_for(self, title: str, takes: Sequence[str]) -> str:
        """Return the first form that a runtime takes and the source offers.

        Raises:
            EngineFailure: INVALID_SPEC if there is none.
        """
        for name in takes:
            if name in self.offers:
                return name
        raise EngineFailure(FailureReason.INVALID_SPEC, f"{title} builds from {' or '.join(takes)}; {self._offered()}")

    def _offered(self) -> str:
        return f"it offers {', '.join(self.offers) or 'nothing'}."
