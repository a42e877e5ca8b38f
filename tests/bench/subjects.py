"""Models that benchmarks quantize, laid out with their data as a worker gets them."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from services.cli.demo import sentence_model, sentences, training
from tests.integration.quantization.workbench import put_tensors

DEMO = Path(training.__file__).parent
RESNET = Path(__file__).with_name("resnet50.py")
RANDOM = "random weights: latency alone is looked at"
_UNPUBLISHED = ("display_name", "description")

Request = dict[str, Any]
Subject = Callable[[Path, int], Request]
"""Fills a work directory, with so many calibration samples, and returns the request in FP32 for ONNX Runtime."""


def digits(workdir: Path, samples: int) -> Request:
    """The demo's CNN and its bound of half a point of top-1, on images that it was not trained on."""
    trained = training.train(workdir, lambda _epoch, _loss: None)
    (workdir / "source").mkdir()
    shutil.move(trained.checkpoint, workdir / "source/digits.pth")
    request = _request(_template("digits_template.yaml"), "source/digits.pth")
    _add_architecture(request, workdir, training.ARCHITECTURE, "DigitsCNN")
    request["calibration"] = put_tensors(workdir / "calibration", {"image": trained.seen_images[:samples]})
    request["evaluation"] = put_tensors(workdir / "evaluation", {"image": trained.images}, trained.labels)
    return request | {"spec": {"scheme": "STATIC", "accuracy": {"max_degradation": 0.5}}}


def resnet50(workdir: Path, samples: int) -> Request:
    """ResNet-50 with random weights, its normalizations fitted to the data, so that activations are of usual size.

    The way beside each shortcut counts a quarter: with all of it the noise of random blocks adds up until no form
    holds, as it does in no trained network.
    """
    import torch

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = np.stack([_picture(rng) for _ in range(max(samples, 8))])
    network = runpy.run_path(str(RESNET), {"architecture": lambda _name: lambda function: function})["build"]()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
        if hasattr(module, "shortcut"):
            torch.nn.init.constant_(module.body[-1].weight, 0.25)
    with torch.no_grad():
        network.train()(torch.from_numpy(images[:8] - 127.5) / 64)
    (workdir / "source").mkdir()
    torch.save(network.state_dict(), workdir / "source/resnet50.pth")
    normalized = {"mean_values": [127.5] * 3, "scale_values": [64.0] * 3}
    image = {"name": "image", "shape": [1, 3, 224, 224], "sample_max": 255, "preprocessing": normalized}
    template = {
        "method": "raw",
        "source_format": "PTH",
        "device": "cpu-x86-64",
        "components": [{"name": "net", "max_batch": 1, "inputs": [image], "output_names": ["logits"]}],
    }
    request = _request(template, "source/resnet50.pth")
    _add_architecture(request, workdir, RESNET, "ResNet50")
    request["conversion"]["parity_waivers"] = {"net": RANDOM}
    request["calibration"] = put_tensors(workdir / "calibration", {"image": images[:samples]})
    return request | {"spec": {"scheme": "STATIC"}}


def minilm_static(workdir: Path, samples: int) -> Request:
    """The demo's sentence model, calibrated on its sentences."""
    texts = [text for pair in sentences.PAIRS for text in pair]
    request = minilm_weights(workdir, samples)
    inputs = sentence_model.tokens([texts[number % len(texts)] for number in range(samples)])
    request["calibration"] = put_tensors(workdir / "calibration", inputs)
    return request | {"spec": {"scheme": "STATIC"}}


def minilm_weights(workdir: Path, _samples: int) -> Request:
    """The demo's sentence model, its weights alone in eight bits."""
    (workdir / "source").mkdir()
    sentence_model.export(workdir / "source/sentences.onnx")
    request = _request(_template("sentences_template.yaml"), "source/sentences.onnx")
    return request | {"spec": {"scheme": "WEIGHT_ONLY"}}


def _picture(rng: np.random.Generator) -> Any:
    """Return noise of several scales, float32 (3, 224, 224) of 0 to 255: nearer to a photo than white noise."""
    layers = [
        rng.uniform(-1, 1, (3, size, size)).repeat(224 // size, 1).repeat(224 // size, 2) for size in (7, 28, 224)
    ]
    noise = layers[0] + layers[1] / 2 + layers[2] / 4
    low, high = noise.min(), noise.max()
    return np.round((noise - low) / (high - low) * 255).astype(np.float32)


def _template(name: str) -> Request:
    values: Request = yaml.safe_load((DEMO / name).read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if key not in _UNPUBLISHED}


def _request(template: Request, source: str) -> Request:
    return {"conversion": {"inputs": [{"path": source}], "template": template, "source_digest": "0" * 64}}


def _add_architecture(request: Request, workdir: Path, file: Path, class_name: str) -> None:
    path = "architecture/net.py"
    (workdir / path).parent.mkdir()
    shutil.copy(file, workdir / path)
    request["conversion"]["inputs"].append({"path": path})
    entry = {"class_name": class_name, "function": "build", "source_path": path}
    request["conversion"]["architectures"] = {"net": entry}
