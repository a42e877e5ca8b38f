"""The files of a form that is an ONNX graph."""

from __future__ import annotations

import shutil
from pathlib import Path

from engines.graph.hygiene import external_files, load_model


def placed_graph(graph: Path, folder: Path) -> tuple[str, ...]:
    """Bring a graph and its external data to a folder, if they are not there; return the files, the graph first."""
    data = external_files(load_model(graph, weights=False), graph)
    if graph.parent != folder:
        shutil.copyfile(graph, folder / "model.onnx")
        for name in data:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(graph.parent / name, folder / name)
    return "model.onnx", *data
