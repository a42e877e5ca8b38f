"""Describes a detector by its checkpoint, and names its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def described(config: Path, checkpoint: Path, root: Path) -> list[dict[str, Any]]:
    """Return a `GraphDescription` for each state dict of a detector's checkpoint.

    Raises:
        EngineFailure: INVALID_MODEL or UNSAFE_MODEL for the checkpoint.
    """
    from engines.formats.pytorch.description import describe_pth

    graphs = describe_pth(checkpoint, checkpoint.relative_to(root).as_posix())
    for graph in graphs:
        graph["metadata"]["configuration"] = config.relative_to(root).as_posix()
    return graphs
