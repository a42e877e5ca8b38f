"""Torch networks as packages run them: preprocessing first, in the requested precision and layout."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.knobs import ALLOCATOR
from engines.runtimes.source import BuildSource
from engines.runtimes.torch_networks.opener import CPU

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from engines.imaging import Nv12
    from engines.runtimes.candidates import Situation
    from engines.tensors.preprocessing import Preprocessing

_MANY_SAMPLES = 4
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def packaged_network(
    runtime: str, source: BuildSource, precision: str = "FP32", *, channels_last: bool = False, on: str = CPU
) -> torch.nn.Module:
    """Return a network that takes the package's inputs in order and returns a tuple of its outputs in order.

    Preprocessing comes first, in float32. For BF16 and FP16, parameters and activations are cast after the
    preprocessing, and outputs back to float32. The source's own network does not change.

    Args:
        runtime: Title of the runtime in failures.
        source: What is built from.
        precision: Arithmetic, as the API names it.
        channels_last: Whether the channels of images lie last in memory.
        on: Where it computes, by torch's name: `cpu` or `cuda`.

    Raises:
        EngineFailure: INVALID_SPEC if the source has no network, UNSUPPORTED_PRECISION if this CPU has no
            arithmetic for the precision.
    """
    import torch

    if source.network is None:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"{runtime} builds from a torch network, and this source is a graph without one.",
            suggested_fix="Choose a runtime that builds from graphs, or upload the network itself: a "
            "state dict with its architecture, TorchScript, an exported program or a Hugging Face folder.",
        )
    dtype = _dtype(runtime, precision, on)
    layout = torch.channels_last if channels_last else None
    network = source.network.module
    if dtype is not None or layout is not None or on != CPU:
        copied: Any = copy.deepcopy(network)
        network = copied.to(device=on, dtype=dtype, memory_format=layout)
    prepare = [
        _preprocessing(source.network.preprocessing.get(spec.name), spec.opt, on) for spec in source.signature.inputs
    ]

    class Packaged(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            ready = [_there(steps(x), dtype, layout) for x, steps in zip(inputs, prepare, strict=True)]
            return tuple(_back(value, dtype) for value in self.network(*ready))

    return Packaged().eval().requires_grad_(requires_grad=False)


def allocator_knobs(now: Situation) -> tuple[tuple[str, str], ...]:
    """Return the knobs that keep freed memory for batches whose activations would be mapped anew in every call."""
    return ((ALLOCATOR.name, "tuned"),) if now.batch >= _MANY_SAMPLES and not now.on_accelerator else ()


def example_of(source: BuildSource, on: str = CPU) -> tuple[torch.Tensor, ...]:
    """Return the arguments to trace a source's network with, where it computes."""
    import torch

    example = source.network.example if source.network else {}
    arrays = (np.array(example[spec.name], order="C") for spec in source.signature.inputs)
    return tuple(torch.from_numpy(array).to(on) for array in arrays)


def _dtype(runtime: str, precision: str, on: str) -> torch.dtype | None:
    import torch

    from engines.spec.toolchain import cpu

    if precision == "FP32":
        return None
    if on != CPU and precision in {"FP16", "BF16"}:
        return torch.float16 if precision == "FP16" else torch.bfloat16
    if precision != "BF16" or not _BF16_FLAGS & set(cpu()[1]):
        raise EngineFailure(
            FailureReason.UNSUPPORTED_PRECISION,
            f"{runtime} cannot compute in {precision} here: "
            + (
                "this CPU has no bfloat16 arithmetic (AVX512_BF16 or AMX)."
                if precision == "BF16"
                else "it is built in FP32 and BF16 only."
            ),
            suggested_fix="Choose the precision FP32, or a runtime that offers the precision.",
        )
    return torch.bfloat16


def _preprocessing(
    steps: Preprocessing | None, shape: Sequence[int], on: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return `engines.tensors.preprocessing.preprocess` in torch, computed in float32."""
    import torch

    from engines.tensors.preprocessing import channel_axis

    if steps is None or not steps.active:
        return lambda value: value
    decode: Callable[[torch.Tensor], torch.Tensor] | None
    if (nv12 := steps.nv12) is not None:
        decode = _decoder(nv12, steps, on)
        axis, rank = (3 if steps.channels_last else 1), 4
    else:
        decode = _reversal(channel_axis(steps, shape)) if steps.swaps_channels else None
        axis, rank = channel_axis(steps, shape), len(shape)
    along = [-1 if position == axis else 1 for position in range(rank)]
    mean, scale = (torch.tensor(values, device=on).reshape(along) for values in (steps.mean_values, steps.scale_values))

    def apply(value: torch.Tensor) -> torch.Tensor:
        value = value if value.is_floating_point() else value.to(torch.float32)
        value = decode(value) if decode is not None else value
        value = value - mean if mean.numel() else value
        return value / scale if scale.numel() else value

    return apply


def _reversal(axis: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda value: value.flip(axis)


def _decoder(colors: Nv12, steps: Preprocessing, on: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return `Nv12.decode` in torch, as `engines.graph.nv12` computes it: chroma weighted before it is doubled."""
    import torch

    bias, _, middle = colors.bias
    luma_weight = float(colors.rows("RGB")[0, 0])
    of_u, of_v = (
        torch.tensor(weights.reshape(1, 3, 1, 1), dtype=torch.float32, device=on)
        for weights in colors.rows(steps.model_color)[:, 1:].T
    )

    def decode(rows: torch.Tensor) -> torch.Tensor:
        top, bottom, chroma = rows.chunk(3, 1)
        luma = (torch.cat([top, bottom], 1).unsqueeze(1) - bias) * luma_weight
        chroma = chroma.unsqueeze(1) - middle
        tint = chroma[..., 0::2] * of_u + chroma[..., 1::2] * of_v
        image = luma + torch.nn.functional.interpolate(tint, scale_factor=2.0, mode="nearest")
        image = image.clamp(0, 255)
        return image.permute(0, 2, 3, 1) if steps.channels_last else image

    return decode


def _there(value: torch.Tensor, dtype: torch.dtype | None, layout: Any) -> torch.Tensor:
    if dtype is not None and value.is_floating_point():
        value = value.to(dtype)
    return value.contiguous(memory_format=layout) if layout is not None and value.dim() == 4 else value


def _back(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return (value.float() if dtype is not None and value.dtype == dtype else value).contiguous()
