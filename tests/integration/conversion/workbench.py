"""Small real networks, and requests to convert them, as a worker gets them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.api import conversion
from engines.sandbox import Progress, Reporter

CNN = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.head = nn.Linear(8, num_classes)

        def forward(self, x):
            return self.head(self.features(x).mean((2, 3)))

    @architecture("Net")
    def build(num_classes=10):
        torch.manual_seed(0)
        return Net(num_classes)
"""

COLOURS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
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

HEAD = """
    import torch
    from torch import nn

    @architecture("Head")
    def build():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(10, 5), nn.Softmax(-1))
"""

TWO_INPUTS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 8)
            self.first = nn.Linear(8, 8)
            self.second = nn.Linear(8, 8)
            self.second.weight = self.first.weight

        def forward(self, ids, mask):
            hidden = self.embed(ids) * mask[..., None]
            hidden = torch.tanh(self.second(torch.tanh(self.first(hidden))))
            return {"hidden": hidden, "best": hidden.mean(1).argmax(-1)}

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        return Net()
"""

TIED = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 8)
            self.second = nn.Linear(8, 8)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        return Net()
"""

WHOLE_BATCH = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x):
            return (x * self.scale).mean((0, 2, 3))

    @architecture("Net")
    def build():
        return Net()
"""

NAN = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return torch.log(-torch.abs(x) * self.scale - 1)

    @architecture("Net")
    def build():
        return Net()
"""

DEEP = """
    import torch
    from torch import nn

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        layers = [layer for _ in range(120) for layer in (nn.Linear(16, 16), nn.ReLU())]
        return nn.Sequential(*layers)
"""

IMAGE = {"name": "x", "shape": ["1", "3", "12", "12"]}


def image(**fields: Any) -> dict[str, Any]:
    """Return the declaration of an image input."""
    return {**IMAGE, **fields}


@dataclass
class Bench:
    """A work directory, and what is said while it is worked in."""

    workdir: Path
    progress: list[Progress] = field(default_factory=list)

    @property
    def package(self) -> Path:
        return self.workdir / "package"

    def put_network(self, source: str, change: Callable[[Any], None] | None = None) -> Any:
        """Write an architecture and its state dict, and return the network."""
        import torch

        text = textwrap.dedent(source)
        (self.workdir / "architecture").mkdir(exist_ok=True)
        (self.workdir / "source").mkdir(exist_ok=True)
        (self.workdir / "architecture/net.py").write_text(text)
        space: dict[str, Any] = {"architecture": lambda _name: lambda function: function}
        exec(compile(text, "net.py", "exec"), space)
        network = space["build"]().eval()
        if change:
            change(network)
        torch.save(network.state_dict(), self.workdir / "source/net.pth")
        return network

    def request(self, **template: Any) -> dict[str, Any]:
        """Return a request for one component `net`; keywords replace fields of the template or of the component."""
        of_component = {"inputs", "max_batch", "num_classes", "output_names", "state_dict_key", "source_file"}
        component = {"name": "net", "inputs": [IMAGE], "max_batch": 4}
        component |= {key: template.pop(key) for key in of_component & template.keys()}
        return {
            "inputs": [{"path": "source/net.pth"}, {"path": "architecture/net.py"}],
            "template": {
                "source_format": "PTH",
                "device": "cpu-x86-64",
                "runtime": "onnxruntime",
                "method": "classification",
                "error_threshold": 1e-4,
                "components": [component],
                **template,
            },
            "architectures": {
                "net": {
                    "name": "architectures/net",
                    "class_name": "Net",
                    "function": "build",
                    "source_path": "architecture/net.py",
                    "digest": "ab" * 32,
                }
            },
            "seed": "3",
            "source_digest": "cd" * 32,
        }

    def convert(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the pipeline in this process."""
        return conversion.run(request, self.workdir, Reporter(self.progress.append))
