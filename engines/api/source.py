"""The model given to `optimize()`, as a request that the engines read: a module in memory, or files in any format."""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.api.convention import Convention, declared, place_of
from engines.api.files import laid_out
from engines.api.structure import structure_of_call
from engines.api.test_data import dtypes_of, named_arrays
from engines.failures import EngineFailure, invalid
from engines.formats import FORMATS
from engines.formats.detection import detect
from engines.formats.protocol import ReadJob
from engines.formats.pytorch import StateDict
from engines.formats.reading import Reader, read_source, with_components, with_stated_inputs
from engines.formats.source import Source
from engines.formats.torch_export.forward import to_tensors
from engines.formats.torch_export.module_source import module_source
from engines.formats.torchscript.reader import script_arguments, scripted
from engines.runtimes import graph_runtime
from engines.spec.devices import Device
from engines.spec.information import apply_elements
from engines.spec.request import ConversionRequest, WorkInput
from engines.spec.source_files import ROOT
from engines.spec.template import Component, Template
from engines.tensors import input_shapes as shapes_of_inputs
from engines.tensors.element import Shapes, TensorElement
from engines.tensors.text import parse as parse_text

if TYPE_CHECKING:
    import torch

_COMPONENT = "model"
_MOST_INPUTS = 64
_IN_MEMORY = StateDict.name
"""Format of a module in memory: the one that it would be stored in."""


class GivenModel:
    """A model laid out in a work directory, and the facts found while it was read.

    Attributes:
        conversion: How it is read.
        name: Its name in reports.
        conventions: How each component is called.
        structures: Structure of each torch network's result, by component; graphs have none.
        inputs: Names of the first component's inputs, in order.
    """

    def __init__(
        self,
        conversion: ConversionRequest,
        name: str,
        reader: Reader,
        convention: Convention | None,
        stated: Sequence[Component] = (),
    ) -> None:
        """Take the facts; `stated` are the components with the inputs that the source states, if none are declared.

        Their extents are settled when they are read.
        """
        self.conversion, self.name, self._reader = conversion, name, reader
        components = stated or conversion.template.components
        names = {part.name: [given.name for given in part.inputs] for part in components}
        self.inputs = names[components[0].name]
        self.conventions = {part: convention or Convention.flat(own) for part, own in names.items()}
        self.structures: dict[str, Any] = {}

    def read(self, job: ReadJob) -> Source:
        """Read a component, as a `Reader`, and note the structure of its result."""
        source = self._reader(job)
        if source.module is not None:
            self.structures[job.component.name] = structure_of_call(source.module, to_tensors(job.arguments))
        return source


def given_module(module: torch.nn.Module, input_shapes: Any, device: Device, test_data: Any) -> GivenModel:
    """Return a module in memory; a copy is read, so that the caller's module does not change.

    Args:
        module: The module.
        input_shapes: Shapes of its inputs, as `optimize` takes them; those of the test data if empty.
        device: Device that it will run on.
        test_data: The user's samples. Inputs without a stated dtype take that of their samples, or of the weights if
            there are none.

    Raises:
        EngineFailure: INVALID_SPEC for shapes that cannot be read, or inputs that `forward` does not take.
    """
    parameters = parameters_of(module)
    elements = _elements(input_shapes) if input_shapes else _elements_of_data(test_data, parameters)
    component, convention = declared(elements, parameters, Component(name=_COMPONENT))
    network = _copy(module)
    dtypes = dtypes_of(test_data, [given.name for given in component.inputs])
    said = {place_of(element, parameters) for element in elements if element.dtype}
    usual = _dtype_of_weights(network)
    inputs = [
        given if place in said else given.model_copy(update={"dtype": dtypes.get(given.name, usual)})
        for given, place in zip(component.inputs, convention.places, strict=True)
    ]
    component = component.model_copy(update={"inputs": tuple(inputs)})

    def reader(job: ReadJob) -> Source:
        return module_source(network, job.component, job.arguments, job.onnx_path)

    name = str(getattr(module, "original_name", type(module).__name__))
    return GivenModel(_conversion(_IN_MEMORY, component, device, name), name, reader, convention)


def given_path(path: Path, workdir: Path, input_shapes: Any, device: Device) -> GivenModel:
    """Return a model on disk, its files linked or copied into `workdir/source`.

    Raises:
        EngineFailure: INVALID_MODEL if the files are in no known format; INVALID_SPEC if there are none, if the format
            cannot be read without more information, or if the shapes do not fit.
    """
    if not path.exists():
        raise invalid(f"There is no file or folder '{path}'.")
    source_format = detect(path)
    if FORMATS[source_format].weights_only:
        raise invalid(
            f"'{path.name}' is a file of torch.save: weights alone. Build the network, load them into it, and pass the "
            "network itself."
        )
    main, files = laid_out(path, source_format, workdir)
    component = Component(name=_COMPONENT, source_file=main)
    conversion = _conversion(source_format, component, device, path.stem, files)
    parts = with_components(conversion, workdir)
    convention = None
    if len(parts.template.components) > 1 and input_shapes:
        raise _several_networks(parts.template.components)
    if not input_shapes:
        stated = [with_stated_inputs(parts, part, workdir) for part in parts.template.components]
        return GivenModel(parts, path.stem, read_source, None, stated)
    parameters = FORMATS[source_format].arguments(workdir / ROOT / main)
    if parameters is not None:
        component, convention = declared(_elements(input_shapes), parameters, component)
    else:
        component = apply_elements(_elements(input_shapes), with_stated_inputs(conversion, component, workdir))
    return GivenModel(_with(conversion, [component]), path.stem, read_source, convention)


def parameters_of(module: torch.nn.Module) -> tuple[str, ...]:
    """Return the names of the positional parameters of `forward`; `input_2`… for those of `*inputs`."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return tuple(script_arguments(module))
    kinds = inspect.Parameter
    parameters = inspect.signature(module.forward).parameters.values()
    names = [entry.name for entry in parameters if entry.kind in {kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD}]
    if any(entry.kind is kinds.VAR_POSITIONAL for entry in parameters):
        names += [f"input_{index}" for index in range(len(names), _MOST_INPUTS)]
    return tuple(names)


def _elements(input_shapes: Any) -> list[TensorElement]:
    """Return the elements of a list, a dictionary, one shape or a text of tensor information."""
    if isinstance(input_shapes, str) and ":" in input_shapes:
        return parse_text(input_shapes)
    return shapes_of_inputs.parse([input_shapes] if isinstance(input_shapes, str) else input_shapes)


def _elements_of_data(test_data: Any, parameters: Sequence[str]) -> list[TensorElement]:
    """Return the inputs that test data belong to.

    Raises:
        EngineFailure: INVALID_SPEC if there are none.
    """
    if test_data is None:
        raise invalid(
            "A module does not state the shapes of its inputs: state them in input_shapes, such as ['1*3*224*224'], or "
            "pass test_data of that shape."
        )
    arrays = named_arrays(test_data, parameters)
    return [
        TensorElement(name, (), "", str(array.dtype), Shapes("fixed", (array.shape,))) for name, array in arrays.items()
    ]


def _several_networks(components: Sequence[Component]) -> EngineFailure:
    names = ", ".join(part.name for part in components)
    return invalid(
        f"The model is made of several networks ({names}), each with inputs of its own, which it states itself: "
        "leave input_shapes empty. To choose the shapes of one, pass that network alone, as its library loads it."
    )


def _copy(module: torch.nn.Module) -> torch.nn.Module:
    import torch

    is_script = isinstance(module, torch.jit.ScriptModule)
    try:
        copied = _copied_script(module) if is_script else copy.deepcopy(module)
    except Exception as error:
        raise invalid(f"The module cannot be copied, which protects yours from changes: {error}") from error
    copied = copied.cpu().eval()
    for parameter in copied.parameters():
        parameter.requires_grad = False
    return scripted(copied) if is_script else copied


def _dtype_of_weights(network: torch.nn.Module) -> str:
    """Return the element type that all weights are of; float32 if they differ, and for bfloat16, which is widened."""
    found = {str(weight.dtype).removeprefix("torch.") for weight in network.parameters() if weight.is_floating_point()}
    return found.pop() if found in ({"float16"}, {"float64"}) else "float32"


def _copied_script(module: Any) -> Any:
    """Return a copy of a script: written and read again, because a deep copy has parameters that are not leaves."""
    import torch

    jit: Any = torch.jit
    written = io.BytesIO()
    jit.save(module, written)
    written.seek(0)
    return jit.load(written, map_location="cpu")


def _conversion(
    source_format: str, component: Component, device: Device, name: str, inputs: Sequence[WorkInput] = ()
) -> ConversionRequest:
    runtime = graph_runtime(device)  # only for reading; the search chooses among all runtimes
    template = Template(
        repo=name, source_format=source_format, device=device.id, runtime=runtime, components=(component,)
    )
    return ConversionRequest(template=template, inputs=tuple(inputs))


def _with(conversion: ConversionRequest, components: Sequence[Component]) -> ConversionRequest:
    template = conversion.template.model_copy(update={"components": tuple(components)})
    return conversion.model_copy(update={"template": template})
