"""A network of colour images that gets NV12: quantized and evaluated like the one that gets RGB."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lathe.internal.v1.quantization_pb2 import QuantizationOutcome

from engines.api import evaluation as evaluating
from engines.datasets.index import write_index
from engines.datasets.items import Item
from engines.imaging import encode_png
from engines.sandbox import Reporter
from engines.tensors import Array
from services.platform.words import from_values
from tests.integration.conversion.workbench import COLOURS
from tests.integration.quantization.workbench import QuantizationBench, digits, train

TAXONOMIES = [{"task": "digit", "classes": [str(digit) for digit in range(10)]}]
NUMBERS = {"mean_values": [110.0, 100.0, 90.0], "scale_values": [60.0, 61.0, 62.0]}
NV12 = {"input_color": "NV12", "model_color": "RGB", "input_range": "WIDE", **NUMBERS}
IMAGE = {"name": "image", "shape": [1, 3, 16, 16], "dtype": "uint8", "preprocessing": NV12}


def coloured() -> tuple[Array, Array]:
    """Return the digits twice as large, each in a colour of its own on a dark ground, (n, 16, 16, 3), and classes."""
    images, classes = digits()
    ink = (images[:, 0] / 16).repeat(2, 1).repeat(2, 2)[..., None]
    tints = np.random.default_rng(0).uniform([90, 60, 120], [255, 220, 255], (len(images), 3))[:, None, None]
    return np.rint(20 + ink * (tints - 20)).astype(np.uint8), classes


def put_images(folder: Path, images: Array, classes: Array) -> dict[str, Any]:
    """Lay out a dataset of images as a worker's parent does; return its message."""
    (folder / "content").mkdir(parents=True, exist_ok=True)
    items = []
    for number, image in enumerate(images):
        body = encode_png(np.ascontiguousarray(image[..., ::-1]))
        digest = hashlib.sha256(body).hexdigest()
        (folder / "content" / digest).write_bytes(body)
        labels = {"digit": str(classes[number])}
        items.append(Item(f"{number}.png", digest, len(body), width=16, height=16, classifications=labels))
    write_index(folder / "index.parquet", items)
    return {"items": str(len(items))}


def accuracy(bench: QuantizationBench) -> float:
    """Evaluate the package of the bench on the images."""
    folder = bench.workdir / "evaluating"
    folder.mkdir()
    (folder / "package").symlink_to(bench.package)
    (folder / "dataset").symlink_to(bench.workdir / "evaluation")
    request = {"spec": {"batch_size": 8}, "dataset": {"items": "300"}}
    metrics = evaluating.run(request, folder, Reporter(lambda progress: None))["result"]["metrics"]
    return next(float(entry["value"]) for entry in metrics if entry["name"] == "top1")


def test_a_network_of_rgb_is_quantized_and_as_accurate_with_nv12(bench: QuantizationBench) -> None:
    images, classes = coloured()
    mean, scale = (np.reshape(NUMBERS[name], (3, 1, 1)) for name in ("mean_values", "scale_values"))
    normal = ((images.transpose(0, 3, 1, 2) - mean) / scale).astype(np.float32)
    network = bench.put_network(COLOURS, lambda net: train(net, normal[:1200] * 16, classes[:1200]))
    with torch.inference_mode():
        of_rgb = (network(torch.from_numpy(normal[1200:1500])).argmax(1).numpy() == classes[1200:1500]).mean()
    spec = {"accuracy": {"max_degradation": 1.0}, "calibration_data": {"samples": 64, "batch_size": 4}}
    request = bench.work(spec, runtime="onnxruntime", inputs=[IMAGE], max_batch=8, taxonomies=TAXONOMIES)
    request["calibration"] = put_images(bench.workdir / "calibration", images[:64], classes[:64])
    request["evaluation"] = put_images(bench.workdir / "evaluation", images[1200:1500], classes[1200:1500])
    result = from_values(bench.quantize(request), QuantizationOutcome()).result
    assert result.bound_held
    assert of_rgb > 0.9
    assert abs(result.source_accuracy - of_rgb) <= 0.01
    assert accuracy(bench) == pytest.approx(result.accuracy, abs=1e-6)
