"""Converts the detectors that the tests make, and gives what their packages find in images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import postprocess
from engines.api.conversion import run
from engines.package.manifest import Manifest, read_manifest
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.sandbox import Reporter

HEIGHT, WIDTH = 128, 160


@dataclass(frozen=True)
class Converted:
    """A converted detector: what the engine answered, and its package."""

    outcome: dict[str, Any]
    package: Path

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.package)

    @property
    def parity(self) -> dict[str, Any]:
        found: dict[str, Any] = self.outcome["components"][0]["parity"]
        return found

    def find(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """Return boxes, scores and labels that the package finds in RGB pixels (1, 3, height, width)."""
        manifest = self.manifest
        component = manifest.components[0]
        with OnnxRuntimeSession(self.package / component.entry, 1, optimise=True) as session:
            outputs = session.run({component.signature.inputs[0].name: pixels})
        taxonomies = [entry.model_dump() for entry in manifest.taxonomies]
        args = postprocess.plain(manifest.args)
        return postprocess.run(manifest.method, args, outputs, taxonomies, (HEIGHT, WIDTH))[0]


def enliven(run: Callable[[], object], layers: Mapping[Any, float]) -> None:
    """Scale the last layers of a network with random weights so that what they say differs from place to place.

    Args:
        run: Runs the network.
        layers: The layers, each with the standard deviation that its outputs get.
    """
    import torch

    for layer, deviation in layers.items():
        seen: list[Any] = []
        hook = layer.register_forward_hook(lambda _module, _inputs, output, seen=seen: seen.append(output.flatten()))
        with torch.no_grad():
            run()
            layer.weight.mul_(deviation / torch.cat(seen).std())
        hook.remove()


def convert(source_format: str, workdir: Path, **template: Any) -> Converted:
    """Convert the files under `workdir/source` for ONNX Runtime, at the size of the tests' images."""
    files = sorted(path for path in (workdir / "source").rglob("*") if path.is_file())
    request = {
        "inputs": [{"path": path.relative_to(workdir).as_posix()} for path in files],
        "template": {
            "source_format": source_format,
            "device": "cpu-x86-64",
            "runtime": "onnxruntime",
            "method": "heads",
            "components": [{"name": "model"}],
            **template,
        },
        "tensor_information": f"image:float(1*3*{HEIGHT}*{WIDTH})",
    }
    return Converted(run(request, workdir, Reporter(lambda _: None)), workdir / "package")


def picture(seed: int) -> NDArray[Any]:
    """Return RGB pixels (1, 3, height, width) of 0 to 255: rectangles of several colours on noise."""
    generator = np.random.default_rng(seed)
    pixels = generator.uniform(0, 60, (HEIGHT, WIDTH, 3))
    for _ in range(6):
        y, x = generator.integers(0, HEIGHT - 30), generator.integers(0, WIDTH - 30)
        tall, wide = generator.integers(15, 60, 2)
        pixels[y : y + tall, x : x + wide] = generator.uniform(0, 255, 3)
    return pixels.round().transpose(2, 0, 1)[None].astype(np.float32)


def assert_equal(found: dict[str, Any], boxes: Any, scores: Any, labels: Any, *, pixels: float = 1e-2) -> None:
    """Hold what a package found to what the toolbox predicts: each box has a partner of its class.

    Scores may differ by 1e-4, corners by `pixels`: graphs and toolboxes compute in float32, Lathe's postprocessing in
    float64. Boxes of nearly equal scores may change places.
    """
    assert len(found["boxes"]) == len(boxes)
    np.testing.assert_allclose(np.sort(found["scores"]), np.sort(scores), atol=1e-4)
    left = list(range(len(boxes)))
    for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True):
        fits = [
            index
            for index in left
            if labels[index] == label
            and abs(scores[index] - score) < 1e-4
            and np.abs(boxes[index] - box).max() < pixels
        ]
        assert fits, f"no partner for {label} {score} {box}"
        left.remove(fits[0])
