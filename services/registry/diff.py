"""Compares two model versions, value by value.

Each version is flattened into a mapping from a path (`graphs[model.onnx].operators.Conv`) to a value; the difference of
two versions is the difference of their mappings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lathe.registry.v1.model_service_pb2 import (
    Difference,
    GraphDescription,
    ModelDescription,
    ModelFormat,
    ModelVersion,
)
from lathe.type.v1.precision_pb2 import Precision
from lathe.type.v1.tensor_pb2 import TensorSpec

from engines.tensors.shapes import format_extents
from services.platform.words import word

# An answer has to stay under gRPC's 4 MiB.
MAX_DIFFERENCES = 20_000

Facts = dict[str, str]


def facts(version: ModelVersion, description: ModelDescription) -> Facts:
    """Return everything comparable about a version, by path."""
    found: Facts = {
        "format": word(ModelFormat, version.format),
        "architecture": version.architecture,
        "size_bytes": str(version.size_bytes),
        "parameter_count": str(description.parameter_count),
    }
    for file in version.files:
        found[f"files[{file.path}].sha256"] = file.digest.sha256
        found[f"files[{file.path}].size_bytes"] = str(file.digest.size_bytes)
    if version.HasField("package"):
        package = version.package
        for field in ("repo", "package_name", "method", "version", "template", "device", "runtime"):
            found[f"package.{field}"] = getattr(package, field)
        found["package.precision"] = word(Precision, package.precision) if package.precision else ""
    for graph in description.graphs:
        label = f"{graph.component}:{graph.path}" if graph.component not in ("", graph.path) else graph.path
        found.update({f"graphs[{label}].{path}": value for path, value in _graph_facts(graph)})
    return {path: value for path, value in found.items() if value}


def differences(before: Facts, after: Facts) -> list[Difference]:
    """Return the differences of `before` and `after` in order of their paths, at most `MAX_DIFFERENCES`.

    Where there are more, the last entry has the path `…` and says how many are left out.
    """
    paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    found = [
        Difference(path=path, before=before.get(path, ""), after=after.get(path, ""))
        for path in paths[:MAX_DIFFERENCES]
    ]
    if len(paths) > MAX_DIFFERENCES:
        found.append(Difference(path="…", after=f"{len(paths) - MAX_DIFFERENCES} more differences are left out"))
    return found


def _graph_facts(graph: GraphDescription) -> Iterator[tuple[str, str]]:
    yield "parameter_count", str(graph.parameter_count)
    yield "parameter_bytes", str(graph.parameter_bytes)
    yield from _tensor_facts("inputs", graph.signature.inputs)
    yield from _tensor_facts("outputs", graph.signature.outputs)
    yield from _tensor_facts("parameters", graph.parameters)
    for operator in graph.operators:
        yield f"operators.{operator.operator}", str(operator.count)
    for key in graph.checkpoint_keys:
        yield f"checkpoint_keys[{key}]", "present"
    for key, value in graph.metadata.items():
        yield f"metadata.{key}", value


def _tensor_facts(role: str, tensors: Iterable[TensorSpec]) -> Iterator[tuple[str, str]]:
    for tensor in tensors:
        yield f"{role}[{tensor.name}].dtype", tensor.dtype
        if tensor.HasField("shape"):
            yield f"{role}[{tensor.name}].shape", format_extents(tensor.shape.min, tensor.shape.max, tensor.axis_names)
