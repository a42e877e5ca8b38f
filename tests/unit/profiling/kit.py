"""Requests of profiles of a small graph, and their results."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from engines.api import conversion, profiling
from engines.sandbox import Progress, Reporter
from tests.unit.optimization.forms import WIDTH, graph

BATCHED = {"name": "x", "dtype": "float32", "shape": ["1", str(WIDTH)]}


def source(workdir: Path, *, max_batch: int = 4) -> dict[str, Any]:
    """Write the graph into a work directory, and return how it is read."""
    graph(workdir / "source" / "m.onnx")
    component = {"name": "net", "source_file": "m.onnx", "inputs": [BATCHED], "max_batch": max_batch}
    template = {"source_format": "ONNX", "device": "cpu-x86-64", "runtime": "onnxruntime", "components": [component]}
    return {"inputs": [{"path": "source/m.onnx"}], "template": template}


def package(workdir: Path) -> None:
    """Convert the graph, so that the package is in the work directory."""
    conversion.run(source(workdir), workdir, Reporter(lambda _: None))


def run(workdir: Path, work: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Run a profile; keywords are fields of its specification."""
    told: list[Progress] = []
    asked = {"device": "cpu-x86-64", "rounds": 5, **spec}
    outcome = profiling.run({**work, "spec": asked}, workdir, Reporter(told.append))
    assert told[-1].fraction == 1
    assert all(before.fraction <= after.fraction for before, after in itertools.pairwise(told))
    return outcome
