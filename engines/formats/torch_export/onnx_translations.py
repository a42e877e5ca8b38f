"""Translations of operators that torch's two exporters lack, although ONNX can express them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what the exporter of torch.export takes as `custom_translation_table`."""
    import torch

    return {torch.ops.aten.sort.stable: _stable_sort}


def _stable_sort(values: Any, stable: bool = False, dim: int = -1, descending: bool = False) -> Any:
    """Translate a stable sort: TopK keeps the order of equal values, as ONNX specifies."""
    from onnxscript.function_libs.torch_lib.ops.core import aten_sort

    return aten_sort(values, dim, descending)


@contextmanager
def symbolic_translations(opset: int) -> Iterator[None]:
    """Give the exporter that traces TorchScript the same translations, inside the block."""
    import torch

    onnx: Any = torch.onnx
    onnx.register_custom_op_symbolic("aten::sort", _symbolic_sort, opset)
    try:
        yield
    finally:
        onnx.unregister_custom_op_symbolic("aten::sort", opset)


def _symbolic_sort(graph: Any, values: Any, *arguments: Any) -> Any:
    """Translate `sort(values, dim, descending)` and `sort(values, stable, dim, descending)`."""
    from torch.onnx import symbolic_helper

    helper: Any = symbolic_helper
    dim, descending = (helper._get_const(value, "i", "sort") for value in arguments[-2:])
    return helper._sort_helper(graph, values, dim, bool(descending))
