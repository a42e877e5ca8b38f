"""What is exported, and what the network returns at the batches at which its graph is traced and checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason
from engines.frontends.forward import ANY_BATCH, call_forward, flatten_outputs
from engines.signature import TensorSpec

if TYPE_CHECKING:
    import torch

_PLAIN = (tuple, list, dict, OrderedDict)


@dataclass(frozen=True)
class ExportJob:
    """What to export.

    Attributes:
        network: The network, in evaluation mode.
        inputs: Specs for one sample, the batch axis first, in the order of `forward`.
        samples: One array per input.
        output_names: Names of the outputs, in flat order.
        max_batch: Largest batch; the batch stays as the specs say where it is 1.
        path: Where the ONNX file goes.
        architecture: The file that the network was built by, for the line that an error names.
    """

    network: torch.nn.Module
    inputs: Sequence[TensorSpec]
    samples: Sequence[NDArray[Any]]
    output_names: Sequence[str]
    max_batch: int
    path: Path
    architecture: Path | None = None

    def at_batch(self, batch: int) -> list[NDArray[Any]]:
        """Return the samples, repeated or cut to a batch where an input has a batch axis."""
        return [np.resize(value, (batch, *value.shape[1:])) if value.ndim else value for value in self.samples]

    @property
    def tried_batches(self) -> tuple[int, ...]:
        """Batches at which the network is run before it is exported: those that its graph is checked and traced at."""
        return (self.checked_batch, self.traced_batch) if self.max_batch > 1 else (self.checked_batch,)

    @property
    def checked_batch(self) -> int:
        """Batch at which the graph is tried: 1 where the batch is dynamic, else the fixed one."""
        return 1 if self.max_batch > 1 else next((spec.opt[0] for spec in self.inputs if spec.opt), 1)

    @property
    def traced_batch(self) -> int:
        """Batch to trace with: 2 where it is dynamic, because exporters take 1 for a constant."""
        return 2 if self.max_batch > 1 else self.checked_batch


@dataclass(frozen=True)
class Observed:
    """What a network returned at one batch.

    Attributes:
        shapes: Shape of each output.
        dtypes: Element type of each output, as NumPy writes it, and `bfloat16`.
        plain: Whether they came in tuples, lists and dictionaries alone, which exporters understand as they are.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    plain: bool


def observe(job: ExportJob) -> dict[int, Observed]:
    """Run the network at each of `tried_batches`.

    Raises:
        EngineFailure: SHAPE_MISMATCH or INVALID_ARCHITECTURE, with the batch and the module in which it raised.
    """
    return {batch: _observe(job, batch) for batch in job.tried_batches}


def _observe(job: ExportJob, batch: int) -> Observed:
    try:
        result = call_forward(job.network, job.at_batch(batch), job.architecture)
    except EngineFailure as failure:
        failure.evidence = f"at batch {batch}, {failure.evidence}"
        if batch == job.traced_batch > job.checked_batch and failure.reason is FailureReason.SHAPE_MISMATCH:
            failure.suggested_fix = ANY_BATCH
        raise
    outputs = flatten_outputs(result)
    dtypes = (str(output.dtype).removeprefix("torch.") for output in outputs)
    return Observed(tuple(tuple(output.shape) for output in outputs), tuple(dtypes), _plain(result))


def _plain(value: Any) -> bool:
    import torch

    if type(value) in _PLAIN:
        return all(map(_plain, value.values() if isinstance(value, dict) else value))
    return isinstance(value, torch.Tensor)
