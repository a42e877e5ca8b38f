"""A small convolutional network for 8×8 grey images: the architecture that the demo registers.

This is the file that a user uploads. `architecture` needs no import: Lathe provides it where it runs the file.
"""

import torch
from torch import nn


class DigitsCNN(nn.Module):
    """Three convolutions with batch normalization and a linear head. Takes float32 (batch, 1, 8, 8); returns logits."""

    def __init__(self, num_classes: int = 10, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            self._block(1, width),
            self._block(width, 2 * width),
            nn.MaxPool2d(2),
            self._block(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4 * width, num_classes)

    @staticmethod
    def _block(channels: int, width: int) -> nn.Sequential:
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, num_classes)."""
        logits: torch.Tensor = self.head(self.features(image))
        return logits


@architecture("DigitsCNN")  # noqa: F821 - provided by Lathe
def build(num_classes: int = 10, width: int = 32) -> nn.Module:
    """Return the network, whose weights are loaded afterwards."""
    return DigitsCNN(num_classes, width)
