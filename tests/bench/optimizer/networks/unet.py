"""A U-Net (Ronneberger et al., 2015) with batch normalization, of 24 to 384 channels."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from tests.bench.optimizer.networks.fitting import settle

WIDTHS = (24, 48, 96, 192, 384)


def _double(channels: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (channels, out):
        layers += [nn.Conv2d(given, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Takes float32 (batch, 3, 256, 256); gives one logit per pixel."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(WIDTHS))
        self.first = _double(3, WIDTHS[0])
        self.down = nn.ModuleList(nn.Sequential(nn.MaxPool2d(2), _double(low, high)) for low, high in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(high, low, 2, 2) for low, high in reversed(pairs))
        self.joined = nn.ModuleList(_double(2 * low, low) for low, _ in reversed(pairs))
        self.head = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, 1, height, width)."""
        seen = [self.first(image)]
        for down in self.down:
            seen.append(down(seen[-1]))
        x = seen.pop()
        for up, joined in zip(self.up, self.joined, strict=True):
            x = joined(torch.cat((seen.pop(), up(x)), 1))
        logits: torch.Tensor = self.head(x)
        return logits


def unet(images: torch.Tensor) -> nn.Module:
    """Return the U-Net, fitted to some images."""
    return settle(UNet(), images)
