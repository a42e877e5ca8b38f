"""The smallest models that go the whole way, and the files that people would write for them."""

from __future__ import annotations

from pathlib import Path

import yaml

NETWORK = """\
from torch import nn


@architecture("{class_name}")
def build(num_classes: int = 4) -> nn.Module:
{before}
    return nn.Sequential(
        nn.Conv2d(3, {width}, 3, padding=1), nn.BatchNorm2d({width}), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear({width}, num_classes),
    )
"""
MEAN, SCALE = [120.0, 110.0, 100.0], [60.0, 61.0, 62.0]


def network_source(class_name: str, before: str = "    pass", width: int = 4) -> str:
    """Return an architecture; `before` is what its function does first."""
    return NETWORK.format(class_name=class_name, before=before, width=width)


def template_text(display_name: str, **fields: object) -> str:
    """Return a template document: pixels in BGR order, normalized in the graph, for a network trained on RGB."""
    preprocessing = {"mean_values": MEAN, "scale_values": SCALE, "input_color": "BGR", "model_color": "RGB"}
    image = {"name": "image", "shape": [1, 3, 8, 8], "sample_min": 0, "sample_max": 255, "preprocessing": preprocessing}
    component = {
        "name": "net",
        "model_type": "classifier",
        "state_dict_key": "state_dict",
        "num_classes": 4,
        "max_batch": 4,
        "inputs": [image],
        "output_names": ["logits"],
    }
    document = {
        "display_name": display_name,
        "method": "classification",
        "repo": "tests",
        "version": "1",
        "error_threshold": 0.00005,
        "source_format": "PTH",
        "device": "cpu-x86-64",
        "runtime": "onnxruntime",
        "taxonomies": [{"task": "animal", "classes": ["cat", "dog", "hen", "cow"]}],
        "components": [component],
    }
    return yaml.safe_dump(document | fields)


def save_weights(folder: Path) -> tuple[Path, Path]:
    """Save the network's weights under the key `state_dict`, and as a plain state dict of other values."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    keyed, plain = folder / "keyed.pth", folder / "plain.pth"
    for path in (keyed, plain):
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 4),
        )
        weights = network.state_dict()
        torch.save({"epoch": 7, "state_dict": weights} if path is keyed else weights, path)
    return keyed, plain
