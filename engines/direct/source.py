"""What `optimize()` is given, as a request that the engines read: a module in memory, or files in any format."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines import input_shapes as shapes_of_inputs
from engines.backends.base import Array
from engines.conversion_request import Component, ConversionRequest, Template, WorkInput, invalid
from engines.devices import Device
from engines.direct.test_data import dtypes_of
from engines.failures import EngineFailure
from engines.frontends.module_source import module_source
from engines.graph.hygiene import external_files, load_model
from engines.inspection.formats import detect
from engines.reading import Reader, read_source, with_components, with_inputs, with_stated_inputs
from engines.source import Source
from engines.source_files import DIRECTORY_FORMATS, ROOT
from engines.tensor_element import TensorElement
from engines.tensor_information import apply_elements

if TYPE_CHECKING:
    import torch

_COMPONENT = "model"
_IN_MEMORY = "PTH"
"""Format that a module in memory is said to be in: what it would be if it were stored."""


class GivenModel:
    """A model as it was given, laid out in a work directory, and what was found out about it when it was read.

    Attributes:
        conversion: How it is read.
        name: What reports call it.
        source: The model, once it was read.
        arguments: What it was exported with.
    """

    def __init__(self, conversion: ConversionRequest, name: str, reader: Reader) -> None:
        self.conversion, self.name, self._reader = conversion, name, reader
        self.source: Source | None = None
        self.arguments: Sequence[Array] = ()

    @property
    def component(self) -> Component:
        """Its only component, the inputs declared."""
        return self.conversion.template.components[0]

    def read(
        self,
        request: ConversionRequest,
        component: Component,
        workdir: Path,
        arguments: Sequence[Array],
        onnx_path: Path,
    ) -> Source:
        """Read it, as a `Reader`, and remember the source."""
        self.source = self._reader(request, component, workdir, arguments, onnx_path)
        self.arguments = arguments
        return self.source

    def result(self) -> Any:
        """Return what the torch network itself returns, in its own structure; None where there is no network."""
        import torch

        assert self.source is not None  # it was read
        if self.source.module is None:
            return None
        network = getattr(self.source.module, "network", self.source.module)
        with torch.inference_mode():
            return network(*(torch.from_numpy(np.array(array, order="C")) for array in self.arguments))


def given_module(
    module: torch.nn.Module, names: Sequence[str], input_shapes: Any, device: Device, test_data: Any
) -> GivenModel:
    """Return a module in memory; a copy of it is what is read, so that the caller's own stays as it is.

    Args:
        module: The module.
        names: Names of the arguments of `forward`, in order.
        input_shapes: Shapes of its inputs, as `engines.input_shapes` reads them.
        device: Where it will run.
        test_data: The user's samples, whose element types are those of the inputs where nothing else says.

    Raises:
        EngineFailure: INVALID_SPEC for shapes that cannot be read, or more inputs than `forward` takes.
    """
    elements = shapes_of_inputs.parse(input_shapes)
    if len(elements) > len(names):
        raise invalid(f"input_shapes says {len(elements)} inputs; 'forward' takes {len(names)}: {', '.join(names)}.")
    component = apply_elements(elements, Component(name=_COMPONENT))
    dtypes = dtypes_of(test_data, names)
    inputs = [
        given.model_copy(update={"name": name, **_said(dtypes.get(name), element)})
        for given, name, element in zip(component.inputs, names, elements, strict=False)
    ]
    component = component.model_copy(update={"inputs": tuple(inputs)})
    network = _copy(module)

    def reader(
        _request: ConversionRequest, component: Component, _workdir: Path, arguments: Sequence[Array], path: Path
    ) -> Source:
        return module_source(network, component, arguments, path)

    name = type(module).__name__
    return GivenModel(_conversion(_IN_MEMORY, component, device, name), name, reader)


def given_path(path: Path, workdir: Path, input_shapes: Any, device: Device) -> GivenModel:
    """Return a model on disk, its files linked or copied into `workdir/source`.

    Raises:
        EngineFailure: INVALID_MODEL where the files are in no known format; INVALID_SPEC where nothing is there, where
            the format cannot be read without more, or the shapes do not fit.
    """
    if not path.exists():
        raise invalid(f"There is no file or folder '{path}'.")
    source_format = detect(path)
    if source_format == "PTH":
        raise invalid(
            f"'{path.name}' is a file of torch.save: weights alone. Build the network, load them into it, and hand "
            "over the network itself."
        )
    root = workdir / ROOT
    root.mkdir(parents=True)
    whole = source_format in DIRECTORY_FORMATS
    main = "" if whole else _main_file(path, source_format)
    for name in _names(path, main, source_format):
        _bring(path / name if path.is_dir() else path.parent / name, root / name)
    component = Component(name=_COMPONENT, source_file=main)
    conversion = _conversion(source_format, component, device, path.stem, _listed(workdir))
    parts = [part.name for part in with_components(conversion, workdir).template.components]
    if len(parts) > 1:
        raise invalid(
            f"'{path.name}' is made of several networks ({', '.join(parts)}), which are not called as one. Optimize "
            "each by itself, as the torch module that the pipeline holds; or create a task, whose package has them all."
        )
    if not input_shapes:
        component = with_inputs(conversion, component, workdir)
    else:
        stated = with_stated_inputs(conversion, component, workdir)
        component = apply_elements(shapes_of_inputs.parse(input_shapes), stated)
    return GivenModel(_with(conversion, component), path.stem, read_source)


def _said(dtype: str | None, element: TensorElement) -> dict[str, str]:
    return {"dtype": dtype} if dtype and not element.dtype else {}


def _copy(module: torch.nn.Module) -> torch.nn.Module:
    try:
        copied = copy.deepcopy(module)
    except Exception as error:
        raise invalid(f"The module cannot be copied, which protects yours from changes: {error}") from error
    return copied.cpu().eval().requires_grad_(requires_grad=False)


def _conversion(
    source_format: str, component: Component, device: Device, name: str, inputs: Sequence[WorkInput] = ()
) -> ConversionRequest:
    runtime = next(iter(device.buildable_runtimes))  # of no account: the search chooses
    template = Template(
        repo=name, source_format=source_format, device=device.id, runtime=runtime, components=(component,)
    )
    return ConversionRequest(template=template, inputs=tuple(inputs))


def _with(conversion: ConversionRequest, component: Component) -> ConversionRequest:
    template = conversion.template.model_copy(update={"components": (component,)})
    return conversion.model_copy(update={"template": template})


def _main_file(path: Path, source_format: str) -> str:
    """Return the file that is opened: the only one of its format in a folder."""
    if path.is_file():
        return path.name
    found = [entry for entry in sorted(path.rglob("*")) if entry.is_file() and _is(entry, source_format)]
    if len(found) != 1:
        raise invalid(f"The folder '{path}' has {len(found)} models; name the file itself.")
    return found[0].relative_to(path).as_posix()


def _is(path: Path, source_format: str) -> bool:
    try:
        return detect(path) == source_format
    except EngineFailure:
        return False


def _names(path: Path, main: str, source_format: str) -> list[str]:
    """Return the files that the model is made of, relative to its folder."""
    if not main:
        return [entry.relative_to(path).as_posix() for entry in sorted(path.rglob("*")) if entry.is_file()]
    original = path / main if path.is_dir() else path
    beside = external_files(load_model(original, weights=False), original) if source_format == "ONNX" else []
    return [main, *((Path(main).parent / name).as_posix() for name in beside)]


def _bring(original: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(original.resolve(), target)
    except OSError:
        shutil.copyfile(original, target)


def _listed(workdir: Path) -> list[WorkInput]:
    files = sorted(entry for entry in (workdir / ROOT).rglob("*") if entry.is_file())
    return [WorkInput(path=entry.relative_to(workdir).as_posix()) for entry in files]
