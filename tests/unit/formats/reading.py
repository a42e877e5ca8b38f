"""Reads model versions that lie in a work directory, as a task does, and compares graph and original."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.formats.preparation import Prepared, prepare
from engines.formats.reading import with_components
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.spec.request import ConversionRequest
from engines.spec.template import Component


def request_of(source_format: str, workdir: Path, components: Sequence[dict[str, Any]] = ()) -> ConversionRequest:
    """Return a request for the files under `workdir/source`, its components those of the source."""
    files = sorted(path for path in (workdir / "source").rglob("*") if path.is_file())
    request = ConversionRequest.parse(
        {
            "inputs": [{"path": str(path.relative_to(workdir))} for path in files],
            "template": {
                "source_format": source_format,
                "device": "cpu-x86-64",
                "runtime": "onnxruntime",
                "components": list(components) or [{"name": "model"}],
            },
        }
    )
    return with_components(request, workdir)


def read(source_format: str, workdir: Path, **component: Any) -> Prepared:
    """Read the only component of the files under `workdir/source`, and take its graph."""
    return read_component(request_of(source_format, workdir, [{"name": "model", **component}]), "model", workdir)


def read_component(request: ConversionRequest, name: str, workdir: Path) -> Prepared:
    """Read one component of several, and take its graph."""
    component: Component = next(part for part in request.template.components if part.name == name)
    prepared = prepare(request, component, workdir, lambda *_: None)
    assert prepared.ready.is_file()
    return prepared


def assert_equal(prepared: Prepared, feeds: Sequence[dict[str, Any]] = ()) -> None:
    """Hold the graph to the original, on the samples and on more feeds."""
    session = OnnxRuntimeSession(prepared.ready, 1, optimise=True)
    for feed in (*prepared.samples.feeds, *feeds):
        expected, actual = prepared.source.run(feed), session.run(feed)
        assert list(actual) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
