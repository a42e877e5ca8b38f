"""The models, with the inputs that they are run, compared and calibrated on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.tensors import Arrays
from services.cli.demo import sentences
from tests.bench.optimizer import networks

if TYPE_CHECKING:
    from torch import nn

Feeds = Callable[[int, np.random.Generator], Arrays]
"""Returns so many samples, along the first axis of each array; inputs by name, in the order of `forward`."""

SEED = 0
_FITTED_TO = 8
_CALIBRATION_SAMPLES = 64


@dataclass(frozen=True)
class Model:
    """One model at one batch.

    Attributes:
        name: How it is called on the command line.
        title: How it is called in tables.
        build: Module of `networks`, and its function that takes samples to fit to and returns the network.
        samples: Draws inputs.
        batch: Samples of each call.
        tolerance: Largest error of a form in FP32, relative to the largest output.
        counted: Whether it is one of the twelve that the means are taken over.
        calibration: Samples that forms in int8 are calibrated on.
    """

    name: str
    title: str
    build: str
    samples: Feeds
    batch: int = 1
    tolerance: float = 1e-3
    counted: bool = True
    calibration: int = _CALIBRATION_SAMPLES

    def network(self) -> nn.Module:
        """Return the network, the same each time."""
        import torch

        torch.manual_seed(SEED)
        fitted = self.samples(_FITTED_TO, np.random.default_rng(SEED))
        module, _, function = self.build.partition(".")
        build = getattr(import_module(f"{networks.__name__}.{module}"), function)
        found: nn.Module = build(*(torch.from_numpy(array) for array in fitted.values()))
        return found

    def feeds(self, count: int) -> list[Arrays]:
        """Return so many inputs that parity and latency are measured on."""
        rng = np.random.default_rng(SEED + 1)
        return [self.samples(self.batch, rng) for _ in range(count)]

    def calibrating(self) -> Arrays:
        """Return samples to calibrate on, drawn apart from those of `feeds`."""
        return self.samples(self.calibration, np.random.default_rng(SEED + 2))

    def testing(self) -> Arrays:
        """Return what a user of Lathe hands over as test data, drawn apart from both."""
        return self.samples(2 * self.batch, np.random.default_rng(SEED + 3))


def _pictures(size: int) -> Feeds:
    def draw(count: int, rng: np.random.Generator) -> Arrays:
        return {"image": np.stack([_picture(size, rng) for _ in range(count)])}

    return draw


def _picture(size: int, rng: np.random.Generator) -> NDArray[Any]:
    """Return noise of several scales, float32 (3, size, size) of about ±2: nearer to a photo than white noise."""
    total = np.zeros((3, size, size))
    for octave, share in ((32, 1.0), (8, 0.5), (1, 0.25)):
        cells = -(-size // octave)
        noise = rng.uniform(-1, 1, (3, cells, cells)).repeat(octave, 1).repeat(octave, 2)
        total += share * noise[:, :size, :size]
    picture: NDArray[Any] = (total / np.abs(total).max() * 2).astype(np.float32)
    return picture


def _digits(count: int, rng: np.random.Generator) -> Arrays:
    from sklearn.datasets import load_digits

    images = load_digits().images
    return {"image": (images[rng.integers(0, len(images), count), None] / 16).astype(np.float32)}


def _normal(name: str, *shape: int) -> Feeds:
    return lambda count, rng: {name: rng.standard_normal((count, *shape)).astype(np.float32)}


def _sentences(count: int, rng: np.random.Generator) -> Arrays:
    from services.cli.demo.sentence_model import tokens

    texts = [text for pair in sentences.PAIRS for text in pair]
    return tokens([texts[number] for number in rng.integers(0, len(texts), count)])


def _tokens(length: int, vocabulary: int, *, mask: bool) -> Feeds:
    def draw(count: int, rng: np.random.Generator) -> Arrays:
        found: Arrays = {"input_ids": rng.integers(0, vocabulary, (count, length))}
        return {**found, "attention_mask": np.ones((count, length), np.int64)} if mask else found

    return draw


_MODELS = (
    Model("mlp", "MLP, 64 columns", "small.mlp", _normal("row", 64)),
    Model("lstm", "LSTM, 64 steps", "small.lstm", _normal("series", 64, 64)),
    Model("digits", "digits CNN", "small.digits", _digits, counted=False),
    Model("mobilenet", "MobileNetV2", "mobile.mobilenet_v2", _pictures(224)),
    Model("efficientnet", "EfficientNet-like", "mobile.efficientnet", _pictures(224), counted=False),
    Model("resnet50", "ResNet-50", "residual.resnet50", _pictures(224)),
    Model("resnet50-16", "ResNet-50, batch 16", "residual.resnet50", _pictures(224), batch=16),
    Model("vit", "ViT-S/16", "vision_transformer.vit_small", _pictures(224)),
    Model("minilm", "MiniLM", "text.minilm", _sentences),
    Model("minilm-16", "MiniLM, batch 16", "text.minilm", _sentences, batch=16),
    Model("bert", "BERT-base, 128 tokens", "text.bert_base", _tokens(128, 30522, mask=True), calibration=32),
    Model("gpt2", "GPT-2, 6 layers, 64 tokens", "text.gpt2", _tokens(64, 50257, mask=False), calibration=32),
    Model("unet", "U-Net 256", "unet.unet", _pictures(256), calibration=32),
    Model("yolo", "YOLO-like 320", "detector.yolo", _pictures(320)),
)

ZOO = {model.name: model for model in _MODELS}
QUICK = ("mlp", "digits", "lstm")
"""Models that take seconds, to try the benchmark with."""
