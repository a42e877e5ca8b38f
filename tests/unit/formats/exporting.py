"""Exports networks to ONNX at once, as a source does when its graph is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from engines.formats.torch_export.module_source import examine
from engines.tensors.signature import Signature, TensorSpec


@dataclass(frozen=True)
class Export:
    """A network as ONNX; `exporter` is `dynamo` or `torchscript`."""

    onnx_path: Path
    module: torch.nn.Module
    signature: Signature
    exporter: str
    constants: tuple[str, ...]


def export_onnx(
    network: torch.nn.Module, inputs: Sequence[TensorSpec], samples: Sequence[NDArray[Any]], path: Path, **options: Any
) -> Export:
    examined = examine(network, inputs, samples, path, **options)
    graph = examined.write_graph()
    return Export(graph.path, examined.module, examined.signature, graph.writer.split()[1], graph.constants)
