"""The README of a package: what it is, what it needs, what it takes and gives, and how close it is to its source."""

from __future__ import annotations

from engines.package.manifest import FILE_NAME, Manifest, Tensor
from engines.parity.report import tolerance_of
from engines.tensors.shapes import format_extents


def readme(manifest: Manifest) -> str:
    """Return the text, in Markdown."""
    needs, several = manifest.requirements, len(manifest.forms) > 1
    packages = " ".join(f"{name}=={version}" for name, version in needs.packages.items())
    flags = f" and one of the processor flags {', '.join(needs.cpu_flags_any)}" if needs.cpu_flags_any else ""
    lines = [
        f"# {manifest.repo or 'Package'} {manifest.version}".rstrip(),
        "",
        f"For `{manifest.device}`, computed in {' and '.join(map(str, manifest.forms))}. "
        f"Needs {needs.architecture}{flags}.",
        "",
        f"    pip install {packages}",
        "    python infer.py                                  # a smoke run on random values",
        "    python infer.py --input x.npy --output y.npz",
        "",
    ]
    for component in manifest.components:
        parity = component.parity
        lines += [f"## {component.name}", "", "| tensor | dtype | shape |", "|---|---|---|"]
        for kind, tensors in (("input", component.signature.inputs), ("output", component.signature.outputs)):
            lines += [f"| {kind} `{tensor.name}` | {tensor.dtype} | {_extents(tensor)} |" for tensor in tensors]
        asked = tolerance_of(parity)
        figures = ", ".join(
            f"`{output['output']}` {float(output[asked.measure.lower()]):.5g}" for output in parity["outputs"]
        )
        lines += [
            "",
            f"Parity with the source: {parity['verdict']}. Required: {asked}; measured: {figures}.",
        ]
        lines += [line for words in component.warnings or () for line in ("", f"Note: {words}")]
        if several:
            lines += ["", f"Computed in {manifest.form_of(component)}."]
        if component.preprocessing:
            lines.append(
                f"Preprocessing is part of the graph for: {', '.join(component.preprocessing)}. Feed raw values."
            )
        lines.append("")
    lines += [f"Everything else stands in `{FILE_NAME}`; measured latencies in `{manifest.report}`.", ""]
    return "\n".join(lines)


def _extents(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "any"
    shape = format_extents(tensor.shape.min, tensor.shape.max, tensor.axis_names or ()).replace("*", " * ")
    batch = f", the batch is axis {tensor.batch_axis}" if (tensor.batch_axis or 0) > 0 else ""
    value = f", {tensor.value[0]:g} in a smoke run" if tensor.value and len(tensor.value) == 1 else ""
    return f"{shape}{batch}{value}"
