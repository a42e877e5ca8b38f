"""Trained networks on disk, made once per module that asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.formats.pytorch.reader import PytorchSource

MakeSource = Callable[..., PytorchSource]


@pytest.fixture(scope="module")
def make_source(tmp_path_factory: pytest.TempPathFactory) -> MakeSource:
    """Write an architecture file and a checkpoint of the network that it builds, its weights random."""

    def make(source: str, *, wrap: Callable[[dict[str, Any]], Any] = dict, **kwargs: Any) -> PytorchSource:
        import torch

        from engines.formats.pytorch.network import build_network

        directory: Path = tmp_path_factory.mktemp("network")
        architecture, checkpoint = directory / "net.py", directory / "net.pth"
        architecture.write_text(source)
        torch.manual_seed(0)
        network = build_network(architecture, config=kwargs.get("config", ""), num_classes=kwargs.get("num_classes", 0))
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 2)
        torch.save(wrap(network.state_dict()), checkpoint)
        return PytorchSource(checkpoint, architecture, **kwargs)

    return make
