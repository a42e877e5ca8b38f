"""Networks of inverted residuals: MobileNetV2 (Sandler et al., 2018) and one like EfficientNet-B0 (Tan & Le, 2019)."""

from __future__ import annotations

import torch
from torch import nn

from tests.bench.optimizer.networks.fitting import calm, settle

MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, stride."""
EFFICIENTNET_STAGES = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)  # fmt: skip
"""Expansion, channels, blocks, stride, kernel."""


def _unit(
    channels: int, wide: int, act: type[nn.Module] | None, *, size: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, wide, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(wide), *([act()] if act else [])]


class SqueezeExcite(nn.Module):
    """Weighs channels by what all of the picture says."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the weighted channels."""
        weights = nn.functional.silu(self.down(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.up(weights))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, weigh channels if asked to, narrow; beside a shortcut if shapes allow."""

    def __init__(
        self, channels: int, out: int, act: type[nn.Module], *, stride: int, expansion: int, size: int, excite: bool
    ) -> None:
        super().__init__()
        wide = channels * expansion
        layers = _unit(channels, wide, act) if expansion > 1 else []
        layers += _unit(wide, wide, act, size=size, stride=stride, groups=wide)
        layers += [SqueezeExcite(wide, max(1, channels // 4))] if excite else []
        layers += _unit(wide, out, None)
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == out
        if self.residual:
            calm(layers[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the narrow channels."""
        found: torch.Tensor = self.body(x)
        return x + found if self.residual else found


class MobileNet(nn.Module):
    """Takes float32 (batch, 3, 224, 224); gives logits of 1000 classes."""

    def __init__(self, stages: tuple[tuple[int, ...], ...], act: type[nn.Module], *, excite: bool) -> None:
        super().__init__()
        layers, channels = _unit(3, 32, act, size=3, stride=2), 32
        for expansion, out, count, stride, *size in stages:
            for position in range(count):
                step = 1 if position else stride
                kernel = size[0] if size else 3
                layers.append(
                    InvertedResidual(channels, out, act, stride=step, expansion=expansion, size=kernel, excite=excite)
                )
                channels = out
        layers += [*_unit(channels, 1280, act), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, 1000)."""
        logits: torch.Tensor = self.layers(image)
        return logits


def mobilenet_v2(images: torch.Tensor) -> nn.Module:
    """Return MobileNetV2, fitted to some images."""
    return settle(MobileNet(MOBILENET_STAGES, nn.ReLU6, excite=False), images)


def efficientnet(images: torch.Tensor) -> nn.Module:
    """Return a network of EfficientNet-B0's stages, fitted to some images."""
    return settle(MobileNet(EFFICIENTNET_STAGES, nn.SiLU, excite=True), images)
