"""The protocol that every backend follows: build a model for a runtime, and open what was built.

BuildSource (graph, torch module) ──build──▶ BuiltForm (files, how to open them) ──open──▶ Session ──run──▶ arrays
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from engines.failures import EngineFailure, FailureReason, first_line, tells_of_no_memory
from engines.tensors import Array, Arrays
from engines.tensors.signature import Signature

if TYPE_CHECKING:
    import torch

    from engines.tensors.preprocessing import Preprocessing

NO_KNOBS: Mapping[str, str] = {}
"""A runtime as it is: nothing is set."""


@dataclass(frozen=True)
class BuildSource:
    """What a form is built of. Every backend takes what it needs of it.

    Attributes:
        onnx_path: The graph; for OpenVINO the `.xml` of an IR, too.
        signature: Interface of the package.
        module: The torch network: takes its inputs in order, returns a tuple of the outputs in order. None where the
            source is a graph.
        preprocessing: What the package does to its inputs before the network sees them, by input; the graph has it.
        example: A feed of the package to trace the module with.
    """

    onnx_path: Path
    signature: Signature
    module: torch.nn.Module | None = None
    preprocessing: Mapping[str, Preprocessing] = field(default_factory=dict)
    example: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltForm:
    """What a backend made of a source, and everything that is needed to open it again.

    Attributes:
        backend: Name of the backend.
        precision: Arithmetic that the form computes in, as the API names it.
        directory: Where the files lie.
        files: Paths in `directory`, the one that the runtime opens first.
        outputs: Names of the outputs, in the order of the graph.
        options: Options of the runtime under which the form was verified; a serving system sets the same.
    """

    backend: str
    precision: str
    directory: Path
    files: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)

    @property
    def entry(self) -> Path:
        """The file that the runtime opens."""
        return self.directory / self.files[0]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum((self.directory / name).stat().st_size for name in self.files)


class Session(ABC):
    """A form that is ready to run; a context manager that closes it.

    Attributes:
        requests: How many calls it computes at the same time.
    """

    requests = 1

    @abstractmethod
    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name; the arrays belong to the caller."""

    def run_many(self, feeds: Sequence[Mapping[str, Array]]) -> list[Arrays]:
        """Return the outputs of many calls, in order, as many computed at the same time as the form has streams."""
        return [self.run(feed) for feed in feeds]

    @abstractmethod
    def close(self) -> None:
        """Let go of the runtime, its threads and its memory; harmless when done again. Nothing runs afterwards."""

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class Backend(Protocol):
    """One runtime that forms are built for."""

    name: str
    packages: tuple[str, ...]
    """Packages, as `pip` names them, that a form needs where it is served."""

    def available(self) -> str | None:
        """Return None when the runtime is installed, else what is missing. Imports no framework."""
        ...

    def build(
        self, source: BuildSource, out_dir: Path, precision: str, knobs: Mapping[str, str] = NO_KNOBS
    ) -> BuiltForm:
        """Build the source in `out_dir`.

        Args:
            source: What to build.
            out_dir: Where the form's files go; created where it is not there.
            precision: Arithmetic to compute in.
            knobs: What differs from the runtime's defaults, by name; the module of each backend says what it takes.

        Raises:
            EngineFailure: UNSUPPORTED_PRECISION, UNSUPPORTED_OPERATOR (with node and operator), TOOLCHAIN_CRASHED;
                INVALID_SPEC where the backend takes a torch network and the source is a graph, or has no such knob.
        """
        ...

    def open(self, form: BuiltForm, threads: int) -> Session:
        """Open a form that this backend built, with that many threads.

        Raises:
            EngineFailure: as `build`; some runtimes look at operators and precision only here.
        """
        ...


def unsupported_precision(runtime: str, precision: str, why: str, offered_by: str) -> EngineFailure:
    """Return the failure of a runtime that cannot compute in a precision, with who can."""
    return EngineFailure(
        FailureReason.UNSUPPORTED_PRECISION,
        f"{runtime} cannot compute in {precision} here: {why}",
        suggested_fix=f"{offered_by} Or choose the precision FP32.",
    )


def unsupported_operator(runtime: str, onnx_path: Path, operator: str, domain: str, raw: str) -> EngineFailure:
    """Return the failure that names the first node of an operator that a runtime does not know."""
    import onnx

    graph = onnx.load(str(onnx_path), load_external_data=False).graph
    matching = [node for node in graph.node if node.op_type == operator and (not domain or node.domain == domain)]
    node = (matching[0].name or matching[0].output[0]) if matching else ""
    full = f"{domain}.{operator}" if domain else operator
    where = f" (node '{node}')" if node else ""
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"{runtime} has no implementation of the operator {full}{where} for the types that it is used with.",
        node=node,
        operator=full,
        evidence=raw.strip()[-500:],
        suggested_fix="Express it with operators that the runtime has, or choose another runtime in the template.",
    )


def crashed(runtime: str, action: str, error: Exception) -> EngineFailure:
    """Return the failure of a runtime that gave no usable answer: OUT_OF_MEMORY where it says so."""
    if tells_of_no_memory(str(error)):
        return EngineFailure(
            FailureReason.OUT_OF_MEMORY,
            f"{runtime} needs more memory than it may have to {action}.",
            evidence=str(error).strip()[-1000:],
            suggested_fix="Use a smaller batch or input shape, or allow more memory (`memory_limit_bytes` of a task).",
        )
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"{runtime} failed to {action}: {first_line(error)}",
        evidence=str(error).strip()[-1000:],
        suggested_fix="Read the task's log for the runtime's whole message; another runtime may take this model.",
    )


def contiguous(inputs: Mapping[str, Array]) -> Arrays:
    """Return the inputs as the C-contiguous arrays that runtimes read without a copy of their own."""
    return {name: np.asarray(value, order="C") for name, value in inputs.items()}
