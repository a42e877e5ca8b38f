"""Lays a package out as a Triton model repository: paths of files, and configurations.

One Triton model per component:

    {model}/config.pbtxt                    the configuration; it serves only the version `number`
    {model}/labels-{number}-{output}.txt    classes, one per line, if an output is scored against a taxonomy
    {model}/{number}/…                      the model's files, under the names that the runtime's backend looks for

Labels carry the number in their name, so that they change with the configuration that names them and not before it.
Files that Triton does not use (the manifest, `infer.py`) stay in the package; the configuration's parameters name it.
Source: Triton's "Model Repository" page, and `src/model_config_utils.cc` of its core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import ComponentEntry, Manifest, Tensor
from engines.package.triton_config import Label, model_config
from engines.runtimes.serving import triton_backend

CONFIG_NAME = "config.pbtxt"
_LABELLED_METHODS = frozenset({"classification", "multi_classification"})


@dataclass(frozen=True)
class TritonModel:
    """One component in the repository.

    Attributes:
        name: Name of the model, and of its folder.
        files: (path in the repository, path in the package); the file that the backend opens comes last.
        texts: (path in the repository, content) of label files.
        config_path: Path of the configuration in the repository.
        config: The configuration, as the JSON form of Triton's `inference.ModelConfig`.
    """

    name: str
    files: tuple[tuple[str, str], ...]
    texts: tuple[tuple[str, str], ...]
    config_path: str
    config: dict[str, Any]


def lay_out(manifest: Manifest, model: str, number: int, package: str = "") -> list[TritonModel]:
    """Return the repository's models for a package.

    Args:
        manifest: The package's manifest.
        model: Name of the Triton model; with several components each has its own name behind it: `model_component`.
        number: Version under which Triton serves it, from 1.
        package: The name of the package elsewhere, for the parameters of the configuration.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if Triton has no backend for a component's runtime, UNSUPPORTED_PRECISION
            for an element type that the backend does not take, INVALID_MODEL for a shape or for files that it cannot
            serve.
    """
    single = len(manifest.components) == 1
    return [
        _model(manifest, component, model if single else f"{model}_{component.name}", number, package)
        for component in manifest.components
    ]


def _model(manifest: Manifest, component: ComponentEntry, name: str, number: int, package: str) -> TritonModel:
    labels = _labels(manifest, component, number)
    return TritonModel(
        name=name,
        files=tuple((f"{name}/{number}/{path}", source) for path, source in _files(manifest, component)),
        texts=tuple((f"{name}/{label.file_name}", label.text) for label in labels),
        config_path=f"{name}/{CONFIG_NAME}",
        config=model_config(manifest, component, name=name, number=number, labels=labels, package=package),
    )


def _files(manifest: Manifest, component: ComponentEntry) -> list[tuple[str, str]]:
    """Return (path in the version's folder, path in the package), the file that the backend opens last."""
    backend = triton_backend(manifest.form_of(component).runtime.name, component.name)
    entry = PurePosixPath(component.entry)
    if component.entry not in component.files:
        raise _invalid(component, f"its entry '{component.entry}' is not one of its files")
    placed: dict[str, str] = {}
    for source in component.files:
        path = PurePosixPath(source)
        if not path.is_relative_to(entry.parent):
            raise _invalid(component, f"'{source}' is not beside or below '{component.entry}'")
        target = path.relative_to(entry.parent).as_posix()
        if path == entry:
            target = backend.file_name
        elif path in {entry.with_suffix(suffix) for suffix in backend.renamed}:
            target = str(PurePosixPath(backend.file_name).with_suffix(path.suffix))
        if target in placed:
            raise _invalid(component, f"'{placed[target]}' and '{source}' would both be called '{target}'")
        placed[target] = source
    return sorted(placed.items(), key=lambda item: (item[1] == component.entry, item[0]))


def _labels(manifest: Manifest, component: ComponentEntry, number: int) -> list[Label]:
    """Return the labels of outputs that hold one score per class of a taxonomy.

    An output named as the taxonomy's task is taken first, then the first one that is free and as wide.
    """
    if manifest.method not in _LABELLED_METHODS:
        return []
    outputs = component.signature.outputs
    widths = [_width(output) for output in outputs]
    labels: dict[int, Label] = {}
    by_name = sorted(manifest.taxonomies, key=lambda taxonomy: taxonomy.task not in {each.name for each in outputs})
    for taxonomy in by_name:
        fitting = [
            index for index, width in enumerate(widths) if width == len(taxonomy.classes) and index not in labels
        ]
        named = [index for index in fitting if outputs[index].name == taxonomy.task]
        for index in (named or fitting)[:1]:
            labels[index] = Label(f"labels-{number}-{index}.txt", outputs[index].name, _lines(taxonomy.classes))
    return [labels[index] for index in sorted(labels)]


def _width(output: Tensor) -> int:
    """Return the extent of the last axis if it is fixed and not the only one, else 0."""
    shape = output.shape
    return shape.max[-1] if shape and len(shape.max) > 1 and shape.min[-1] == shape.max[-1] else 0


def _lines(classes: Sequence[str]) -> str:
    return "".join(" ".join(name.split()) + "\n" for name in classes)


def _invalid(component: ComponentEntry, why: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL, f"Component '{component.name}' cannot be laid out for Triton: {why}."
    )
