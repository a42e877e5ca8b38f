"""The ResNet-50 of the other benchmarks."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
from torch import nn

from tests.bench import child
from tests.bench.optimizer.networks.fitting import calm, settle

FILE = Path(child.__file__).with_name("resnet50.py")


def resnet50(images: torch.Tensor) -> nn.Module:
    """Return ResNet-50, fitted to some images."""
    network: nn.Module = runpy.run_path(str(FILE), {"architecture": lambda _name: lambda function: function})["build"]()
    for module in network.modules():
        if hasattr(module, "shortcut"):
            assert isinstance(module.body, nn.Sequential)
            calm(module.body[-1])
    return settle(network, images)
