"""Nets of Caffe for tests: random weights for a text; the net computed by Lathe's truth, ONNX Runtime and OpenCV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.blobs import check_weights, needed_shapes
from engines.formats.caffe.caffemodel import read_caffemodel
from engines.formats.caffe.kinds import DETECTIONS
from engines.formats.caffe.net import Net, Step, load_net
from engines.formats.caffe.reference import output_names, run, shapes_of
from engines.formats.caffe.reference_layers import LAYERS
from engines.formats.caffe.writer import write_onnx
from engines.tensors import Array, Arrays

Shape = tuple[int, ...]


def layer(kind: str, parameters: str = "", bottom: str = "x", top: str = "y", name: str = "") -> str:
    """Return the text of a layer; several blobs are separated by blanks."""
    ends = [f'bottom: "{each}"' for each in bottom.split()] + [f'top: "{each}"' for each in top.split()]
    return f'layer {{ name: "{name or top.partition(" ")[0]}" type: "{kind}" {" ".join(ends)} {parameters} }}\n'


def source(name: str, *shape: int) -> str:
    """Return the text of an input."""
    dims = " ".join(f"dim: {extent}" for extent in shape)
    return layer("Input", f"input_param {{ shape {{ {dims} }} }}", "", name)


@dataclass(frozen=True)
class Pair:
    """A prototxt with a caffemodel beside it."""

    net: Path
    weights: Path

    @property
    def inputs(self) -> dict[str, Shape]:
        """The shapes of its inputs, as the text states them."""
        stated = load_net(self.net).inputs
        return {name: tuple(extent or 1 for extent in shape or ()) for name, shape in stated.items()}

    def feed(self, seed: int = 0, low: float = -1.0, high: float = 1.0) -> Arrays:
        """Return random inputs."""
        random = np.random.default_rng(seed)
        return {name: random.uniform(low, high, shape).astype(np.float32) for name, shape in self.inputs.items()}

    def truth(self, feed: Mapping[str, Array]) -> Arrays:
        """Return what Lathe holds packages to."""
        net, weights = load_net(self.net), read_caffemodel(self.weights)
        check_weights(net, weights, self.weights.name)
        return dict(zip(output_names(net), run(net, weights, feed), strict=True))

    def onnx(self, feed: Mapping[str, Array], largest: int = 0) -> Arrays:
        """Return what the ONNX graph computes in ONNX Runtime; its batch goes from that of the text up to `largest`."""
        import onnx
        import onnxruntime

        net, weights = load_net(self.net), read_caffemodel(self.weights)
        low = shapes_of(net, weights, self.inputs)
        high = shapes_of(net, weights, {name: (largest or s[0], *s[1:]) for name, s in self.inputs.items()})
        path = self.net.with_suffix(".onnx")
        write_onnx(net, weights, low, high, path)
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, dict(feed)), strict=True))

    def opencv(self, feed: Mapping[str, Array], outputs: Sequence[str] = ()) -> Arrays:
        """Return what OpenCV computes, which shares no code with Lathe."""
        import cv2

        net = cv2.dnn.readNetFromCaffe(str(self.net), str(self.weights))
        for name, value in feed.items():
            net.setInput(value, name)
        names = list(outputs or load_net(self.net).outputs)
        return dict(zip(names, map(np.asarray, net.forward(names)), strict=True))


def pair(folder: Path, text: str, blobs: Mapping[str, Sequence[Array]] | None = None, seed: int = 0) -> Pair:
    """Write a text with random weights; `blobs` are those of some layers."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "deploy.prototxt"
    path.write_text(text)
    net = load_net(path)
    found = {**random_blobs(net, seed), **(blobs or {})}
    weights = folder / "net.caffemodel"
    weights.write_bytes(caffemodel(net, found))
    return Pair(path, weights)


def random_blobs(net: Net, seed: int = 0) -> dict[str, list[Array]]:
    """Return random weights of every layer, such that values stay of the order of 1."""
    import torch

    random, found = np.random.default_rng(seed), dict[str, list[Array]]()
    values = {
        name: torch.empty(tuple(e or 1 for e in shape or ()), device="meta") for name, shape in net.inputs.items()
    }
    for step in net.steps:
        bottoms = [values[name] for name in step.bottoms]
        shapes = needed_shapes(step, [tuple(value.shape) for value in bottoms])
        if shapes:
            found[step.name] = [_random(step, index, shape, random) for index, shape in enumerate(shapes)]
        empty = [torch.empty(shape, device="meta") for shape in shapes]
        names = step.tops if step.kind != DETECTIONS else ()
        values.update(zip(names, LAYERS[step.kind](step, bottoms, empty), strict=False))
    return found


def _random(step: Step, index: int, shape: Shape, random: np.random.Generator) -> Array:
    if step.kind == "BatchNorm":
        value = {0: random.normal(size=shape), 1: random.uniform(0.5, 2, shape), 2: np.full(shape, 0.8)}[index]
    elif len(shape) > 1:
        value = random.normal(size=shape) * math.sqrt(2 / math.prod(shape[1:]))
    else:
        value = random.uniform(0.1, 1, shape)
    return value.astype(np.float32)


def caffemodel(net: Net, blobs: Mapping[str, Sequence[Array]], *, old: bool = False) -> bytes:
    """Return the file of weights; `old` writes it as Caffe did in 2014: V1, with shapes of four axes."""
    file = messages.NetParameter()
    for step in net.steps:
        entry = file.layers.add(name=step.name) if old else file.layer.add(name=step.name, type=step.kind)
        for value in blobs.get(step.name, ()):
            blob = entry.blobs.add(data=np.asarray(value).ravel().tolist())
            if old:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - value.ndim) + value.shape
            else:
                blob.shape.dim.extend(value.shape)
    return file.SerializeToString()
