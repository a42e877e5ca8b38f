"""What makes a network of random weights behave as a trained one does, as far as precision is concerned."""

from __future__ import annotations

import torch
from torch import nn


def settle(network: nn.Module, *examples: torch.Tensor) -> nn.Module:
    """Scale the convolutions for rectifiers, fit the normalizations to the examples; return it ready to infer.

    Normalizations that fit nothing let activations grow or fade over the layers as in no trained network, and no
    figure about half precision or integers would mean anything.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(*examples)
    return network.eval()


def calm(normalization: nn.Module) -> None:
    """Let the way beside a shortcut count a quarter: the noise of random blocks would add up without bound."""
    assert isinstance(normalization, nn.BatchNorm2d)
    nn.init.constant_(normalization.weight, 0.25)
