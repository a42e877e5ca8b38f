"""Small torch networks with preprocessing, and the expected results."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.runtimes import BuildSource, Network
from engines.tensors import Array, Arrays
from engines.tensors.preprocessing import Preprocessing, preprocess
from engines.tensors.signature import Signature, TensorSpec

SHAPE = (1, 3, 12, 12)
STEPS = Preprocessing(
    mean_values=(120.0, 110.0, 100.0), scale_values=(50.0, 60.0, 70.0), input_color="BGR", model_color="RGB"
)
SIGNATURE = Signature(
    (TensorSpec.fixed("image", "uint8", SHAPE).batched(8), TensorSpec.fixed("shift", "float32", (1, 5)).batched(8)),
    (TensorSpec.fixed("y", "float32", (1, 5)).batched(8), TensorSpec.fixed("best", "int64", (1,)).batched(8)),
)


def feed(batch: int) -> Arrays:
    """Return pixels and numbers."""
    rng = np.random.default_rng(batch)
    pixels = rng.integers(0, 256, (batch, *SHAPE[1:])).astype(np.uint8)
    return {"image": pixels, "shift": rng.standard_normal((batch, 5)).astype(np.float32)}


def convolution() -> Any:
    """Return a network of one convolution, with two inputs and two outputs."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.head = torch.nn.Linear(8, 5)

        def forward(self, image: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = self.head(torch.relu(self.conv(image)).mean((2, 3))) + shift
            return y, y.argmax(1)

    torch.manual_seed(0)
    return Net().eval().requires_grad_(requires_grad=False)


def undecided() -> Any:
    """Return a network that decides by a value."""
    import torch

    class Net(torch.nn.Module):
        def forward(self, image: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = shift * 2 if shift.sum() > 0 else shift - 1
            return y, image.argmax(1)[:, 0, 0]

    return Net().eval()


def source(network: Any) -> BuildSource:
    """Return what runtimes build from: a network alone."""
    return BuildSource(SIGNATURE, network=Network(network, {"image": STEPS}, feed(2)))


def truth(network: Any, given: Arrays) -> Array:
    """Return the first output, preprocessing done in NumPy."""
    import torch

    image = preprocess(given["image"], STEPS, "float32")
    value: Array = network(torch.from_numpy(image), torch.from_numpy(given["shift"]))[0].numpy()
    return value
