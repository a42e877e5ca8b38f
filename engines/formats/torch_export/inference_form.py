"""Takes from a network what training left in it and no exporter or runtime takes: observers, and bfloat16."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CONVERT_FIRST = (
    "Save it after torch.ao.quantization.convert(model), or from before it was prepared; or upload the network itself, "
    "with its code: its observers are then removed."
)
_OBSERVERS = (
    "The network is prepared for quantization, but not converted: its observers are removed. Its fake quantization "
    "keeps the current scales."
)
_WIDENED = (
    "The network is in bfloat16, which no runtime takes as an input type: it is read in float32, with the same values "
    "as weights, and its results are float32."
)


def inference_form(network: torch.nn.Module) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Return a network in its form for inference, changed in place, and warnings about the changes.

    Fake quantization keeps its scales, observers are taken out, and a network with bfloat16 weights becomes one of
    float32. A graph that was recorded stays in its types, as these are written into it.

    Raises:
        EngineFailure: INVALID_MODEL for TorchScript whose observers are on: they cannot be taken out.
    """
    notes = []
    _refuse_scripted_observers(network)
    network, found = _without_observers(network)
    if found:
        notes.append(_OBSERVERS)
    if _is_bfloat16(network):
        network = network.float()
        notes.append(_WIDENED)
    for note in notes:
        log.info(note)
    return network, tuple(notes)


def _refuse_scripted_observers(network: torch.nn.Module) -> None:
    buffers = network.named_buffers()
    if any(name.endswith(".observer_enabled") and value.any() for name, value in buffers) and _is_script(network):
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            "The TorchScript was saved during quantization-aware training: its observers change its scales with every "
            "call.",
            suggested_fix=CONVERT_FIRST,
        )


def _is_script(network: torch.nn.Module) -> bool:
    import torch

    return any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())


def _without_observers(module: torch.nn.Module) -> tuple[torch.nn.Module, bool]:
    """Return the module without observers inside of it, and whether there were any."""
    import torch
    from torch.ao.quantization.fake_quantize import FakeQuantizeBase
    from torch.ao.quantization.observer import ObserverBase

    if isinstance(module, torch.jit.ScriptModule):
        return module, False
    if isinstance(module, ObserverBase):
        return torch.nn.Identity(), True
    if isinstance(module, FakeQuantizeBase):
        return _fixed(module), True
    any_found = False
    for name, child in module.named_children():
        plain, found = _without_observers(child)
        if found and plain is not child:
            setattr(module, name, plain)
        any_found |= found
    return module, any_found


def _fixed(fake: Any) -> torch.nn.Module:
    """Return a module that quantizes and dequantizes as `fake` does, with the scales of now."""
    import torch

    low, high = int(fake.activation_post_process.quant_min), int(fake.activation_post_process.quant_max)
    scale, zero_point = fake.scale.detach().clone(), fake.zero_point.detach().clone()
    if not fake.fake_quant_enabled[0]:
        return torch.nn.Identity()

    class PerTensor(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.fake_quantize_per_tensor_affine(values, float(scale), int(zero_point), low, high)

    class PerChannel(torch.nn.Module):
        scale: torch.Tensor
        zero_point: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", scale)
            self.register_buffer("zero_point", zero_point)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.fake_quantize_per_channel_affine(
                values, self.scale, self.zero_point, int(fake.ch_axis), low, high
            )

    return PerChannel() if scale.numel() > 1 else PerTensor()


def _is_bfloat16(network: torch.nn.Module) -> bool:
    import torch

    if any(isinstance(module, torch.fx.GraphModule) for module in network.modules()):
        return False
    return any(value.dtype == torch.bfloat16 for value in (*network.parameters(), *network.buffers()))
