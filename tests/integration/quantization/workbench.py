"""Small real models with calibration data and labelled images, and requests to quantize them, as a worker gets them."""

from __future__ import annotations

import functools
import hashlib
import io
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.api import quantization as quantizing
from engines.datasets.index import write_index
from engines.datasets.items import Item
from engines.sandbox import Reporter
from engines.tensors import Array
from tests.integration.conversion.workbench import Bench

DIGITS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            )
            self.head = nn.Linear(32 * 16, 10)

        def forward(self, x):
            return self.head(self.body(x).flatten(1))

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        return Net()
"""

BLOCK = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(64, 64)
            self.norm1, self.norm2 = nn.LayerNorm(64), nn.LayerNorm(64)
            self.q, self.k, self.v, self.o = (nn.Linear(64, 64) for _ in range(4))
            self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 64)

        def forward(self, ids):
            x = self.norm1(self.embed(ids))
            weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2) / 8, -1)
            x = x + self.o(weights @ self.v(x))
            return self.norm2(x + self.down(torch.relu(self.up(x)))).mean(1)

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        return Net()
"""

OUTLIERS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, spread):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in spread])
            self.scales = []
            for layer, factor in zip(self.layers, spread):
                scale = torch.ones(16)
                scale[0] = factor
                layer.weight.data *= 3 / scale
                self.scales.append(scale)

        def forward(self, x):
            for layer, scale in zip(self.layers, self.scales):
                x = torch.tanh(layer(x * scale))
            return x

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        return Net([FACTORS])
"""
"""Linear layers, in some of which one channel is so much larger than the others that eight bits cannot hold both."""

IMAGES = [{"name": "x", "shape": [1, 1, 8, 8], "preprocessing": {"mean_values": [0.0], "scale_values": [16.0]}}]
IDS = [{"name": "ids", "shape": [1, 12], "dtype": "int64", "sample_max": 63}]


@functools.cache
def exported(source: str, shape: tuple[int, ...], dtype: str) -> bytes:
    """Return a network of one input as ONNX, its batch dynamic."""
    space: dict[str, Any] = {"architecture": lambda _name: lambda function: function}
    exec(textwrap.dedent(source), space)
    name = "ids" if dtype == "int64" else "x"
    stream = io.BytesIO()
    torch.onnx.export(
        space["build"]().eval(),
        (torch.from_numpy(np.zeros(shape, dtype)),),
        stream,  # type: ignore[arg-type]  # its stub knows paths alone
        input_names=[name],
        output_names=["output"],
        dynamic_axes={name: {0: "batch"}, "output": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    return stream.getvalue()


def digits() -> tuple[Array, Array]:
    """Return scikit-learn's digits, (n, 1, 8, 8) of 0 to 16, and their classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images.astype(np.float32)[:, None], data.target


def train(network: torch.nn.Module, images: Array, classes: Array) -> None:
    """Train for a second, on values divided by 16 as the template's preprocessing does."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(images / 16), torch.from_numpy(classes)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    network.train()
    for _ in range(4):
        order = torch.randperm(len(x))
        for start in range(0, len(x), 128):
            rows = order[start : start + 128]
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(x[rows]), y[rows])
            torch.autograd.backward(loss)
            optimizer.step()
    network.eval()


def put_tensors(folder: Path, arrays: dict[str, Array], classes: Array | None = None) -> dict[str, Any]:
    """Lay out a selection of tensors as a worker's parent does; return its message."""
    content = folder / "content"
    content.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type]  # names as keywords
    body = (folder / "data.npz").read_bytes()
    (folder / "data.npz").unlink()
    digest = hashlib.sha256(body).hexdigest()
    (content / digest).write_bytes(body)
    count = len(next(iter(arrays.values())))
    labels = [
        {} if classes is None else {"digit": str(label)} for label in (classes if classes is not None else range(count))
    ]
    write_index(
        folder / "index.parquet",
        [Item("data.npz", digest, len(body), classifications=labels[row], row=row) for row in range(count)],
    )
    return {"items": str(count)}


class QuantizationBench(Bench):
    """A work directory for quantizations."""

    def work(self, spec: dict[str, Any], **template: Any) -> dict[str, Any]:
        """Return a request; keywords replace fields of the template or of the component."""
        return {"conversion": self.request(**template), "spec": spec}

    def onnx_work(self, spec: dict[str, Any], **template: Any) -> dict[str, Any]:
        """Return a request for what `put_onnx` wrote."""
        request = self.work(spec, source_format="ONNX", **template)
        request["conversion"] |= {"inputs": [{"path": "source/net.onnx"}], "architectures": {}}
        return request

    def put_onnx(self, source: str, example: Array) -> None:
        """Write a network as ONNX, which is quicker than reading it from PyTorch in every test."""
        (self.workdir / "source").mkdir()
        (self.workdir / "source/net.onnx").write_bytes(exported(source, example.shape, str(example.dtype)))

    def quantize(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the quantization in this process."""
        return quantizing.run(request, self.workdir, Reporter(self.progress.append))

    def put_digits(self) -> None:
        """Train the digits network; lay out calibration and labelled evaluation data."""
        images, classes = digits()
        self.put_network(DIGITS, lambda network: train(network, images[:1200], classes[:1200]))
        self.calibration = put_tensors(self.workdir / "calibration", {"x": images[:64]})
        self.evaluation = put_tensors(self.workdir / "evaluation", {"x": images[1200:1500]}, classes[1200:1500])
