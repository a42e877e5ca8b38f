"""The protocol of a source format: everything that Lathe knows of it, stated by one class in the format's folder.

The class itself is light: services and the command line import it. Whatever needs a framework, or runs anything of a
model, is imported inside the methods that say so, and called in the sandboxed child only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from engines.failures import EngineFailure, FailureReason, first_line
from engines.spec.source_files import DOCUMENTS, ROOT, file_inside, folder_inside

if TYPE_CHECKING:
    from engines.formats.files import ModelFiles
    from engines.formats.source import Source
    from engines.spec.open_axes import Declared
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component, Template
    from engines.tensors import Array
    from engines.tensors.signature import TensorSpec

SourceForm = Literal["graph", "network", "function", "caffe"]
"""A form that a source offers to runtimes: an ONNX graph, a torch network, a TensorFlow function, native files."""


@dataclass(frozen=True)
class ReadJob:
    """A component to read.

    Attributes:
        request: The conversion.
        component: Which component, its inputs declared.
        workdir: Where the request's files are.
        arguments: One array per argument of the network, preprocessed.
        onnx_path: Where the ONNX file goes when the source's graph is taken.
    """

    request: ConversionRequest
    component: Component
    workdir: Path
    arguments: Sequence[Array]
    onnx_path: Path


class Format:
    """A source format.

    Attributes:
        name: Its name in `lathe.registry.v1.ModelFormat`.
        words: The format in sentences: `an ONNX model`.
        advice: How to write and upload the right files.
        template_note: What the built-in templates of the format take.
        method: Postprocessing method of the built-in templates.
        forms: The forms that its sources offer. Every source becomes an ONNX graph, which need not be its own form.
        endings: Ends of file names that decide if the contents do not.
        main_files: Files by which the folder of a model is known. Empty for formats whose model is one file.
        packages: Packages, as `pip` names them, that read the format, in addition to those of torch and ONNX.
        modules: Those of their modules without which nothing of the format can be read.
        convertible: Whether it can be read into ONNX. A package of Lathe is described and released, not converted.
        weights_only: Whether it holds weights alone, so that users declare an architecture and the inputs.
        fixed_inputs: Whether a component has all the inputs of the graph, under their names. In other formats it may
            name them by position, or tensors inside the graph.
        open_axes: Whether its graphs state their inputs, and may leave extents of them open.
    """

    name: str
    words: str
    advice: str
    template_note: str = ""
    method: str = "raw"
    forms: frozenset[SourceForm] = frozenset({"graph"})
    endings: tuple[str, ...] = ()
    main_files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    convertible: bool = True
    weights_only: bool = False
    fixed_inputs: bool = False
    open_axes: bool = False

    @property
    def readable(self) -> bool:
        """Whether its modules are installed here. Imports none of them."""
        return all(importlib.util.find_spec(name) is not None for name in self.modules)

    def matches(self, files: ModelFiles) -> bool:
        """Return whether files are in this format. Runs nothing of them and imports no framework."""
        raise NotImplementedError

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        """Return a `GraphDescription` of each graph of a file, or of the folder. Runs nothing; sandboxed all the same.

        Args:
            folder: Where the files of the model version are.
            file: The file's path in it; the first of `main_files` for a folder.

        Raises:
            EngineFailure: INVALID_MODEL or UNSAFE_MODEL.
        """
        raise NotImplementedError

    def model_files(self, paths: Iterable[str]) -> list[str]:
        """Return those files of a model version that can be models, by their names."""
        return [path for path in paths if not path.lower().endswith(DOCUMENTS)]

    def files_beside(self, path: Path) -> list[str]:
        """Return the files that belong to a model file, relative to its folder."""
        return []

    def source_path(self, component: Component, paths: Iterable[str]) -> str:
        """Return the path, in the work directory, of the file or folder that a component is read from.

        Args:
            component: The component. Without a `source_file` it is the only model, or the whole folder.
            paths: All paths of the request's files.

        Raises:
            EngineFailure: INVALID_SPEC if nothing is there, or several files can be the model and none is named.
        """
        files, named = [path for path in paths if path.startswith(f"{ROOT}/")], component.source_file
        reads = f"Component '{component.name}' reads"
        if self.main_files:
            folder = str(PurePosixPath(ROOT) / named)
            if not any(file.startswith(f"{folder}/") for file in files):
                have = sorted({str(PurePosixPath(file).parent) for file in files})
                raise _invalid(f"{reads} the folder '{folder}'; the model version has {_list(have)}.")
            return folder
        if named:
            if f"{ROOT}/{named}" not in files:
                raise _invalid(f"{reads} '{ROOT}/{named}'; the model version has {_list(files)}.")
            return f"{ROOT}/{named}"
        models = self.model_files(files)
        if len(models) != 1:
            raise _invalid(
                f"Component '{component.name}' names no source file, and the model version has {len(models)} files "
                f"that may be the model: {_list(models or files)}. Set `source_file`."
            )
        return models[0]

    def located(self, request: ConversionRequest, component: Component, workdir: Path) -> Path:
        """Return the file or folder that a component is read from.

        Raises:
            EngineFailure: as `source_path`; UNSAFE_MODEL for a link that leads out of the folder.
        """
        path = self.source_path(component, [entry.path for entry in request.inputs])
        return folder_inside(workdir, path) if self.main_files else file_inside(workdir, path)

    def components(self, request: ConversionRequest, workdir: Path) -> tuple[Component, ...]:
        """Return the components of the whole source, for a template whose only component names no source file."""
        return request.template.components

    def stated(self, request: ConversionRequest, workdir: Path) -> Template:
        """Return the template with what the source says of its outputs, such as classes; as it is for most formats.

        Raises:
            EngineFailure: whatever the reader finds wrong.
        """
        return request.template

    def arguments(self, path: Path) -> Sequence[str] | None:
        """Return the arguments of a source that keeps their names and order, but no shapes; None for all others."""
        return None

    def in_order(self, request: ConversionRequest, component: Component, workdir: Path) -> Component:
        """Return the component with its declared inputs in the order of the source, if that depends on the source."""
        return component

    def graph_inputs(
        self, request: ConversionRequest, component: Component, workdir: Path
    ) -> Sequence[TensorSpec] | None:
        """Return the inputs that a graph states, which may leave axes open; None for formats that hold no graph.

        Raises:
            EngineFailure: whatever the reader finds wrong.
        """
        return None

    def inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Declared:
        """Return a component with the inputs that its source states, every axis with its extents.

        Raises:
            EngineFailure: INVALID_SPEC naming the inputs to declare; whatever the reader finds wrong.
        """
        from engines.spec.open_axes import Declared

        return Declared(component)

    def read(self, job: ReadJob) -> Source:
        """Read a component. Runs code of the model: sandboxed.

        Raises:
            EngineFailure: whatever the reader finds wrong.
        """
        raise NotImplementedError


def not_installed(formats: str, packages: str, extra: str, error: ImportError) -> EngineFailure:
    """Return the failure for formats that cannot be read because an extra of Lathe is not installed.

    Args:
        formats: The formats that cannot be read: `TensorFlow's formats`.
        packages: The missing packages.
        extra: The extra that brings it.
        error: The error of the import.
    """
    return EngineFailure(
        FailureReason.TOOLCHAIN_UNAVAILABLE,
        f"{formats} cannot be read here: {packages} is not installed.",
        evidence=first_line(error),
        suggested_fix=f"The operator of the worker has to install `lathe[{extra}]`.",
    )


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)


def _list(paths: Sequence[str]) -> str:
    return ", ".join(paths[:20]) + (f" and {len(paths) - 20} more" if len(paths) > 20 else "") or "none"
