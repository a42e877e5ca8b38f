"""ResNet-50 (He et al., Deep Residual Learning for Image Recognition, 2015), the stride in the 3×3 convolution.

An architecture as a user uploads it: `architecture` is provided where the file runs.
"""

import torch
from torch import nn

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution beside a shortcut; gives four times `width` channels."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        wide = 4 * width
        self.body = nn.Sequential(
            *self._unit(channels, width, 1, 1), nn.ReLU(),
            *self._unit(width, width, 3, stride), nn.ReLU(),
            *self._unit(width, wide, 1, 1),
        )  # fmt: skip
        same = stride == 1 and channels == wide
        self.shortcut = nn.Identity() if same else nn.Sequential(*self._unit(channels, wide, 1, stride))

    @staticmethod
    def _unit(channels: int, width: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
        convolution = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
        return convolution, nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both ways, rectified."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet50(nn.Module):
    """Takes float32 (batch, 3, height, width); gives logits of 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        blocks, channels = [], 64
        for stage, (count, width) in enumerate(STAGES):
            for position in range(count):
                blocks.append(Bottleneck(channels, width, 2 if stage and not position else 1))
                channels = 4 * width
        self.features = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(channels, 1000)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, 1000)."""
        logits: torch.Tensor = self.head(self.features(image))
        return logits


@architecture("ResNet50")  # noqa: F821 - provided by Lathe
def build() -> nn.Module:
    """Return the network."""
    return ResNet50()
