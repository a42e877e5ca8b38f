"""A detector like YOLOv5-S (CSP backbone, pyramid of three scales) that decodes its boxes inside the graph."""

from __future__ import annotations

import torch
from torch import nn

from tests.bench.optimizer.networks.fitting import calm, settle

STRIDES, CLASSES, ANCHORS = (8, 16, 32), 80, 3
ANCHOR_SIZES = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
FIELDS = CLASSES + 5


def _unit(channels: int, out: int, size: int = 1, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, size, stride, (size - 1) // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.SiLU())


class Bottleneck(nn.Module):
    """1×1 and 3×3 convolution, beside a shortcut in the backbone."""

    def __init__(self, channels: int, *, residual: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(_unit(channels, channels), _unit(channels, channels, 3))
        self.residual = residual
        if residual:
            last = self.body[1]
            assert isinstance(last, nn.Sequential)
            calm(last[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return as many channels."""
        found: torch.Tensor = self.body(x)
        return x + found if self.residual else found


class Csp(nn.Module):
    """Half of the channels through bottlenecks, half past them."""

    def __init__(self, channels: int, out: int, count: int, *, residual: bool = True) -> None:
        super().__init__()
        half = out // 2
        self.through = nn.Sequential(
            _unit(channels, half), *(Bottleneck(half, residual=residual) for _ in range(count))
        )
        self.past, self.joined = _unit(channels, half), _unit(out, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return both halves, mixed."""
        found: torch.Tensor = self.joined(torch.cat((self.through(x), self.past(x)), 1))
        return found


class Pooling(nn.Module):
    """Three poolings in a row, all kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow, self.pool = _unit(channels, channels // 2), nn.MaxPool2d(5, 1, 2)
        self.joined = _unit(2 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return as many channels, each seen at four sizes."""
        seen = [self.narrow(x)]
        for _ in range(3):
            seen.append(self.pool(seen[-1]))
        found: torch.Tensor = self.joined(torch.cat(seen, 1))
        return found


class Detector(nn.Module):
    """Takes float32 (batch, 3, 320, 320); gives (batch, 6300, 85): centre, size, objectness and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_unit(3, 32, 6, 2), _unit(32, 64, 3, 2), Csp(64, 64, 1))
        self.eighth = nn.Sequential(_unit(64, 128, 3, 2), Csp(128, 128, 2))
        self.sixteenth = nn.Sequential(_unit(128, 256, 3, 2), Csp(256, 256, 3))
        self.last = nn.Sequential(_unit(256, 512, 3, 2), Csp(512, 512, 1), Pooling(512))
        self.narrow = nn.ModuleList((_unit(512, 256), _unit(256, 128)))
        self.upward = nn.ModuleList((Csp(512, 256, 1, residual=False), Csp(256, 128, 1, residual=False)))
        self.stride = nn.ModuleList((_unit(128, 128, 3, 2), _unit(256, 256, 3, 2)))
        self.downward = nn.ModuleList((Csp(256, 256, 1, residual=False), Csp(512, 512, 1, residual=False)))
        self.heads = nn.ModuleList(nn.Conv2d(width, ANCHORS * FIELDS, 1) for width in (128, 256, 512))
        for index, sizes in enumerate(ANCHOR_SIZES):
            self.register_buffer(f"anchors{index}", torch.tensor(sizes).reshape(1, ANCHORS, 1, 1, 2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return every anchor's box and scores."""
        eighth = self.eighth(self.stem(image))
        sixteenth = self.sixteenth(eighth)
        top = self.narrow[0](self.last(sixteenth))
        middle = self.narrow[1](self.upward[0](torch.cat((_twice(top), sixteenth), 1)))
        low = self.upward[1](torch.cat((_twice(middle), eighth), 1))
        mid = self.downward[0](torch.cat((self.stride[0](low), middle), 1))
        high = self.downward[1](torch.cat((self.stride[1](mid), top), 1))
        return torch.cat([self._decoded(index, features) for index, features in enumerate((low, mid, high))], 1)

    def _decoded(self, index: int, features: torch.Tensor) -> torch.Tensor:
        raw = self.heads[index](features)
        batch, _, height, width = raw.shape
        values = torch.sigmoid(raw.reshape(batch, ANCHORS, FIELDS, height, width).permute(0, 1, 3, 4, 2))
        rows, columns = torch.arange(height, dtype=raw.dtype), torch.arange(width, dtype=raw.dtype)
        grid = torch.stack((columns[None, :].expand(height, -1), rows[:, None].expand(-1, width)), -1)
        centres = (values[..., :2] * 2 - 0.5 + grid) * STRIDES[index]
        sizes = (values[..., 2:4] * 2) ** 2 * getattr(self, f"anchors{index}")
        return torch.cat((centres, sizes, values[..., 4:]), -1).reshape(batch, -1, FIELDS)


def _twice(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def yolo(images: torch.Tensor) -> nn.Module:
    """Return the detector, fitted to some images."""
    return settle(Detector(), images)
