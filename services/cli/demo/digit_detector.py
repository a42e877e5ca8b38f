"""A small detector for digits in grey scenes: the second architecture that the demo registers.

This is the file that a user uploads. `architecture` needs no import: Lathe provides it where it runs the file.
"""

import torch
from torch import nn

STRIDE = 8
"""Pixels of the scene per position of the output."""


class DigitDetector(nn.Module):
    """An anchor-free convolutional detector: every position of a coarse grid predicts one box and its class.

    Takes float32 (batch, 1, size, size). Returns (batch, 4 + num_classes, places): centre, width and height in pixels,
    then one score of 0 to 1 per class, as the postprocess method `yolo` takes them.
    """

    def __init__(self, num_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        widths = (1, width, width, 2 * width, 2 * width, 4 * width, 4 * width, 4 * width)
        strides = (2, 1, 2, 1, 2, 1, 1)
        self.features = nn.Sequential(*(self._block(*of) for of in zip(widths[:-1], widths[1:], strides, strict=True)))
        self.box = nn.Conv2d(widths[-1], 4, 1)
        self.score = nn.Conv2d(widths[-1], num_classes, 1)

    @staticmethod
    def _block(channels: int, width: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.SiLU())

    def forward(self, scene: torch.Tensor) -> torch.Tensor:
        """Return boxes and scores of shape (batch, 4 + num_classes, places)."""
        features = self.features(scene)
        box, scores = self.box(features), self.score(features).sigmoid()
        rows = torch.arange(features.shape[2], device=scene.device, dtype=scene.dtype)
        columns = torch.arange(features.shape[3], device=scene.device, dtype=scene.dtype)
        x = (box[:, 0].sigmoid() * 2 - 0.5 + columns) * STRIDE
        y = (box[:, 1].sigmoid() * 2 - 0.5 + rows[:, None]) * STRIDE
        size = box[:, 2:].exp() * 2 * STRIDE
        return torch.cat([torch.stack([x, y], 1), size, scores], 1).flatten(2)


@architecture("DigitDetector")  # noqa: F821 - provided by Lathe
def build(num_classes: int = 10, width: int = 16) -> nn.Module:
    """Return the network, whose weights are loaded afterwards."""
    return DigitDetector(num_classes, width)
