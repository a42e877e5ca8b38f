"""Train the demo's network on scikit-learn's handwritten digits: real data that needs no download."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ARCHITECTURE = Path(__file__).with_name("digits_cnn.py")
MEAN, SCALE = 77.8, 95.9
"""Mean and standard deviation of the training pixels, which are 0 to 255; the conversion bakes them into the graph."""

EPOCHS = 20
BATCH = 64
SEED = 0


@dataclass(frozen=True)
class TrainedDigits:
    """What training leaves behind.

    Attributes:
        checkpoint: File with the state dict under the key `state_dict`, as training scripts usually save it.
        images: Held-out images, float32 (n, 1, 8, 8), whole pixels of 0 to 255.
        labels: Their digits, int64 (n,).
        seen_images: Images of the training, likewise.
        seen_labels: Their digits.
        accuracy: Part of the held-out images that PyTorch itself gets right, 0 to 1.
    """

    checkpoint: Path
    images: np.ndarray[Any, np.dtype[np.float32]]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    seen_images: np.ndarray[Any, np.dtype[np.float32]]
    seen_labels: np.ndarray[Any, np.dtype[np.int64]]
    accuracy: float


def train(folder: Path, on_epoch: Callable[[int, float], None]) -> TrainedDigits:
    """Train for a few seconds and save the checkpoint in `folder`; `on_epoch` gets the epoch and its mean loss."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the network is too small to share out, and waits for a second core when that is busy
    pixels, digits = load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits, test_size=0.2, random_state=SEED, stratify=digits
    )
    network = runpy.run_path(str(ARCHITECTURE), {"architecture": lambda _name: lambda function: function})["build"]()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    inputs, targets = torch.from_numpy((train_x - MEAN) / SCALE), torch.from_numpy(train_y)
    for epoch in range(1, EPOCHS + 1):
        network.train()
        losses = []
        for batch in torch.split(torch.randperm(len(inputs)), BATCH):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(inputs[batch]), targets[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        on_epoch(epoch, float(np.mean(losses)))
    network.eval()
    with torch.inference_mode():
        predicted = network(torch.from_numpy((test_x - MEAN) / SCALE)).argmax(1).numpy()
    checkpoint = folder / "digits.pth"
    torch.save({"epoch": EPOCHS, "state_dict": network.state_dict()}, checkpoint)
    accuracy = float((predicted == test_y).mean())
    return TrainedDigits(checkpoint, test_x, test_y.astype(np.int64), train_x, train_y.astype(np.int64), accuracy)
