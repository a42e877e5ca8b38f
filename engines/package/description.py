"""Describes a package by its manifest and the graphs among its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.formats.onnx.description import describe_onnx
from engines.package.manifest import ComponentEntry, Manifest, read_manifest
from engines.runtimes.openvino.ir import describe_ir

_READERS = {".onnx": describe_onnx, ".xml": describe_ir}


def describe_package(workdir: Path) -> list[dict[str, Any]]:
    """Return a `GraphDescription` for each component that the manifest names; its signature is the manifest's.

    Raises:
        EngineFailure: INVALID_MODEL if the manifest is missing or wrong, names files that are not there, or a graph
            cannot be read.
    """
    manifest = read_manifest(workdir)
    return [_describe(component, manifest, workdir) for component in manifest.components]


def _describe(component: ComponentEntry, manifest: Manifest, workdir: Path) -> dict[str, Any]:
    reader = _READERS.get(Path(component.entry).suffix)
    graph = reader(workdir / component.entry, component.entry) if reader else _unread(component)
    samples = {"__all__": {"range", "value"}}  # bounds of random inputs are not part of the interface
    signature = component.signature.model_dump(
        mode="json", exclude_none=True, exclude={"inputs": samples, "outputs": samples}
    )
    form = manifest.form_of(component)
    metadata = {
        "runtime": f"{form.runtime.name} {form.runtime.version}".strip(),
        "device": manifest.device,
        "precision": form.precision,
        "method": manifest.method,
        "model_type": component.model_type,
        "max_batch": str(component.max_batch),
    }
    shown = {key: value for key, value in metadata.items() if value}
    return {**graph, "component": component.name, "signature": signature, "metadata": {**graph["metadata"], **shown}}


def _unread(component: ComponentEntry) -> dict[str, Any]:
    """Return the description of a form whose file cannot be read here."""
    return {"path": component.entry, "operators": [], "parameter_count": 0, "parameter_bytes": 0, "metadata": {}}
