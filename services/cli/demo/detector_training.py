"""Train the demo's detector on scenes of real digits, in about a minute on two cores."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.demo.scenes import SIZE, Scene, compose

if TYPE_CHECKING:
    import torch

ARCHITECTURE = Path(__file__).with_name("digit_detector.py")
MEAN, SCALE = 45.0, 45.0
"""Roughly mean and standard deviation of the pixels, which are 0 to 255; the conversion bakes them into the graph."""

STRIDE = 8
TRAIN_SCENES, CALIBRATION_SCENES, TEST_SCENES = 2000, 128, 240
EPOCHS = 12
BATCH = 32
SEED = 0


@dataclass(frozen=True)
class TrainedDetector:
    """The results of training.

    Attributes:
        checkpoint: File with the state dict under the key `state_dict`.
        calibration: Scenes of the training digits, for calibration.
        test: Scenes of digits that were not used in training.
    """

    checkpoint: Path
    calibration: list[Scene]
    test: list[Scene]


def train(folder: Path, on_epoch: Callable[[int, float], None]) -> TrainedDetector:
    """Train and save the checkpoint in `folder`; `on_epoch` gets the epoch and its mean loss."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # a second thread gains little, and waits if another program uses the second core
    digits = load_digits()
    split = train_test_split(digits.images, digits.target, test_size=0.3, random_state=SEED, stratify=digits.target)
    train_x, test_x, train_y, test_y = split
    scenes = compose(train_x, train_y, TRAIN_SCENES, SEED)
    inputs = torch.from_numpy(np.stack([scene.pixels for scene in scenes])[:, None].astype(np.float32))
    inputs = (inputs - MEAN) / SCALE
    boxes, classes = _targets(scenes)
    network = runpy.run_path(str(ARCHITECTURE), {"architecture": lambda _name: lambda function: function})["build"]()
    torch.nn.init.constant_(network.score.bias, -4.0)  # few positions have a digit, so begin by expecting none
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = EPOCHS * -(-len(scenes) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for batch in torch.split(torch.randperm(len(scenes)), BATCH):
            optimizer.zero_grad()
            loss = _loss(network(inputs[batch]), boxes[batch], classes[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        on_epoch(epoch, float(np.mean(losses)))
    checkpoint = folder / "detector.pth"
    torch.save({"state_dict": network.state_dict()}, checkpoint)
    return TrainedDetector(
        checkpoint,
        compose(train_x, train_y, CALIBRATION_SCENES, SEED + 1),
        compose(test_x, test_y, TEST_SCENES, SEED + 2),
    )


def _targets(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return boxes (n, 4, places) as centre, width, height; and classes (n, 10, places), 1 at the centres of digits."""
    import torch

    grid = SIZE // STRIDE
    boxes, classes = torch.zeros(len(scenes), 4, grid, grid), torch.zeros(len(scenes), 10, grid, grid)
    for index, scene in enumerate(scenes):
        for (left, top, width, height), digit in zip(scene.boxes.tolist(), scene.digits.tolist(), strict=True):
            x, y = left + width / 2, top + height / 2
            row, column = int(y // STRIDE), int(x // STRIDE)
            boxes[index, :, row, column] = torch.tensor([x, y, width, height])
            classes[index, digit, row, column] = 1
    return boxes.flatten(2), classes.flatten(2)


def _loss(found: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor) -> Any:
    """Return the focal loss of the scores and the overlap loss (1 - IoU) of the boxes at positions with a digit."""
    import torch

    scores = found[:, 4:].clamp(1e-5, 1 - 1e-5)
    likely = torch.where(classes > 0, scores, 1 - scores)
    weight = torch.where(classes > 0, 0.75, 0.25)
    held = classes.sum(1) > 0
    count = held.sum().clamp(min=1)
    focal = -(weight * (1 - likely) ** 2 * likely.log()).sum() / count
    near, far = found[:, :4].transpose(1, 2)[held], boxes.transpose(1, 2)[held]
    low = torch.maximum(near[:, :2] - near[:, 2:] / 2, far[:, :2] - far[:, 2:] / 2)
    high = torch.minimum(near[:, :2] + near[:, 2:] / 2, far[:, :2] + far[:, 2:] / 2)
    shared = (high - low).clamp(min=0).prod(1)
    union = near[:, 2:].prod(1) + far[:, 2:].prod(1) - shared
    return focal * 2 + (1 - shared / union).mean()
