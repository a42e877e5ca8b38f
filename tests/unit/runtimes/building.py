"""Builds and opens forms on the processor that the tests run on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engines.runtimes import BuildOptions, BuildSource, BuiltForm, runtime
from engines.spec.devices import load_catalog

CPU = load_catalog().device("cpu-x86-64")
NO_KNOBS: Mapping[str, str] = {}


def build(
    name: str, source: BuildSource, out_dir: Path, precision: str = "FP32", knobs: Mapping[str, str] = NO_KNOBS
) -> BuiltForm:
    """Build a source with a runtime."""
    return runtime(name).build(source, CPU, BuildOptions(precision, knobs), out_dir)
