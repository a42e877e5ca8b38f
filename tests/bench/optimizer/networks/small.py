"""Small networks: an LSTM, the demo's CNN of digits, a perceptron over a table's columns."""

from __future__ import annotations

import itertools
import runpy

import torch
from torch import nn

from services.cli.demo import training
from tests.bench.optimizer.networks.fitting import settle


class Tagger(nn.Module):
    """Takes float32 (batch, 64, 64); gives ten logits from the last state of two layers of 128."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = nn.LSTM(64, 128, 2, batch_first=True), nn.Linear(128, 10)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, 10)."""
        states, _ = self.recurrent(series)
        logits: torch.Tensor = self.head(states[:, -1])
        return logits


def lstm(_series: torch.Tensor) -> nn.Module:
    """Return the LSTM."""
    return Tagger().eval()


class Perceptron(nn.Module):
    """Takes float32 (batch, 64); gives two logits through three hidden layers of 256."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 256, 256, 256)
        layers: list[nn.Module] = []
        for given, out in itertools.pairwise(widths):
            layers += [nn.Linear(given, out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 2))

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, 2)."""
        logits: torch.Tensor = self.layers(row)
        return logits


def mlp(_rows: torch.Tensor) -> nn.Module:
    """Return the perceptron."""
    return Perceptron().eval()


def digits(images: torch.Tensor) -> nn.Module:
    """Return the demo's CNN, fitted to some images."""
    space = runpy.run_path(str(training.ARCHITECTURE), {"architecture": lambda _name: lambda function: function})
    return settle(space["build"](), images)
