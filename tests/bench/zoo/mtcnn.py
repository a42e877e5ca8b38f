"""The three networks of MTCNN, as somebody who has the checkpoints uploads them."""

import torch
from torch import nn


class Cascade(nn.Module):
    """Convolutions with PReLU, then heads: a box, with `landmarks` five points, and whether there is a face."""

    def __init__(self, net: str):
        super().__init__()
        widths = {"p": (3, 10, 16, 32), "r": (3, 28, 48, 64), "o": (3, 32, 64, 64, 128)}[net]
        kernels = {"p": (3, 3, 3), "r": (3, 3, 2), "o": (3, 3, 3, 2)}[net]
        pools = {"p": (2,), "r": (3, 3), "o": (3, 3, 2)}[net]
        self.net, self.stages = net, len(kernels)
        for number, (into, out, kernel) in enumerate(zip(widths, widths[1:], kernels, strict=False), 1):
            setattr(self, f"conv{number}", nn.Conv2d(into, out, kernel))
            setattr(self, f"prelu{number}", nn.PReLU(out))
        for number, kernel in enumerate(pools, 1):
            setattr(self, f"pool{number}", nn.MaxPool2d(kernel, 2, ceil_mode=True))
        if net == "p":
            self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)
        elif net == "r":
            self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
            self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)
        else:
            self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
            self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = image
        for number in range(1, self.stages + 1):
            x = getattr(self, f"prelu{number}")(getattr(self, f"conv{number}")(x))
            if hasattr(self, f"pool{number}"):
                x = getattr(self, f"pool{number}")(x)
        if self.net == "p":
            return self.conv4_2(x), torch.softmax(self.conv4_1(x), 1)
        x = x.permute(0, 3, 2, 1).flatten(1)
        if self.net == "r":
            x = self.prelu4(self.dense4(x))
            return self.dense5_2(x), torch.softmax(self.dense5_1(x), 1)
        x = self.prelu5(self.dense5(x))
        return self.dense6_2(x), self.dense6_3(x), torch.softmax(self.dense6_1(x), 1)


@architecture("Cascade")  # noqa: F821 - provided by Lathe
def build(net: str = "o") -> nn.Module:
    return Cascade(net)
