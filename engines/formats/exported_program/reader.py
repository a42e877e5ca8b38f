"""Reads programs of torch.export (.pt2) into ONNX: inputs and their dynamic axes come from the program itself."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line, invalid
from engines.formats.detection import check_format
from engines.formats.exported_program.expressions import check_expressions
from engines.formats.protocol import ReadJob
from engines.formats.source import Source
from engines.formats.torch_export.module_source import module_source
from engines.spec.open_axes import Declared
from engines.spec.template import Component
from engines.tensors.inputs import ComponentInput

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

OPEN_BATCH = 8
"""Largest batch of a program that states no bound."""
OPEN_GROWTH = 2
"""Largest extent of any other axis without a bound, in multiples of the example's."""

_OBJECTS = ("opaque_obj_", "custom_obj_")
_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class _Leaf:
    """One argument of a program, nested arguments laid flat: a tensor by name, or a constant."""

    name: str
    value: Any

    @property
    def is_tensor(self) -> bool:
        return bool(self.name)


def read_exported_program(path: Path, job: ReadJob) -> Source:
    """Return a torch.export program as a source.

    Raises:
        EngineFailure: INVALID_MODEL if the file is not a program, UNSAFE_MODEL if it holds code; INVALID_SPEC if
            the inputs are not the program's; as `module_source`.
    """
    program = load_program(path)
    names = [leaf.name for leaf in _leaves(program) if leaf.is_tensor]
    component = job.component
    if len(component.inputs) != len(names):
        raise invalid(
            f"Component '{component.name}' declares {len(component.inputs)} inputs; the program takes {len(names)}: "
            f"{', '.join(names)}."
        )
    return module_source(_flat(program), component, job.arguments, job.onnx_path)


def exported_program_inputs(path: Path, component: Component) -> Declared:
    """Return the component with the inputs of its program, its dynamic axes between the bounds that it states.

    A warning lists the defaults for bounds that it does not state.
    """
    program = load_program(path)
    examples = _examples(program)
    unbounded: list[str] = []
    inputs: list[ComponentInput] = []
    for index, leaf in enumerate(_leaves(program)):
        if leaf.is_tensor:
            given, open_axes = _input(program, leaf, examples[index] if examples else None)
            unbounded += [f"axis {axis} of '{given.name}' {given.max_shape[axis]}" for axis in open_axes]
            inputs.append(given)
    bounds = {(given.min_shape[0], given.max_shape[0]) for given in inputs if given.shape}
    least, most = next(iter(bounds)) if len(bounds) == 1 else (0, 0)
    if least == 1 < most:
        update = {"inputs": tuple(map(_one_sample, inputs)), "max_batch": component.max_batch or most}
    else:
        update = {"inputs": tuple(map(_profile, inputs)), "max_batch": 1}
    warnings = (_defaults(unbounded),) if unbounded else ()
    return Declared(component.model_copy(update=update), warnings)


def _defaults(unbounded: Sequence[str]) -> str:
    return (
        f"The program states no upper bound of some axes, so defaults are used: at most {', '.join(unbounded)}. "
        "For others, export with Dim(name, max=…), or declare the inputs in the template or in tensor information."
    )


def _one_sample(given: ComponentInput) -> ComponentInput:
    """Return the input with a first axis of 1: the batch is the component's."""
    parts = ("shape", "min_shape", "max_shape")
    return _profile(given.model_copy(update={part: (1, *getattr(given, part)[1:]) for part in parts}))


def _profile(given: ComponentInput) -> ComponentInput:
    """Return the input without a profile if no axis varies."""
    fixed = given.min_shape == given.max_shape
    return given.model_copy(update={"min_shape": (), "max_shape": ()}) if fixed else given


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Return the program of a file of `torch.export.save`; nothing in the file is unpickled but tensors.

    Raises:
        EngineFailure: INVALID_MODEL or UNSAFE_MODEL.
    """
    import torch

    check_format(path, "EXPORTED_PROGRAM")
    _refuse_objects(path)
    check_expressions(path)
    swallowed = _Swallowed()
    try:
        with _weights_only(), swallowed.listening():
            return torch.export.load(path)
    except Exception as error:
        log.exception("torch.export.load refused %s", path.name)
        told = first_line(swallowed.error or error)
        if told.startswith("Weights only load failed"):
            raise _pickled(path, told) from error
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"torch cannot load the program '{path.name}': {told.rstrip('.')}.",
            suggested_fix="Upload the file that torch.export.save wrote, whole, by this or an earlier release of "
            f"torch ({torch.__version__.partition('+')[0]}).",
        ) from error


class _Swallowed(logging.Handler):
    """Keeps the error that torch logs as a warning, and then says no more of than that there was one."""

    error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.error = record.exc_info[1]

    @contextmanager
    def listening(self) -> Iterator[None]:
        logger = logging.getLogger("torch.export")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)


def _refuse_objects(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if PurePosixPath(name).name.startswith(_OBJECTS)]
    except zipfile.BadZipFile as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The archive '{path.name}' is damaged: {first_line(error)}.",
            suggested_fix="Upload the file that torch.export.save wrote, whole.",
        ) from error
    if found:
        raise _pickled(path, ", ".join(found[:20]))


def _pickled(path: Path, evidence: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.UNSAFE_MODEL,
        f"The program '{path.name}' holds pickled objects, whose loading would run code; it was not loaded.",
        evidence=evidence,
        suggested_fix="Export the network without custom classes: tensors and plain values alone.",
    )


@contextmanager
def _weights_only() -> Iterator[None]:
    """Keep torch from falling back to a loader that runs code, as it does for example inputs."""
    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_WEIGHTS_ONLY]
        else:
            os.environ[_WEIGHTS_ONLY] = before


def _flat(program: torch.export.ExportedProgram) -> torch.nn.Module:
    """Return a module that takes the program's tensors by position and fills in its constants."""
    import torch
    from torch.utils import _pytree as pytree

    leaves, spec = _leaves(program), program.call_spec.in_spec

    class Program(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = program.module(check_guards=False)

        def train(self, mode: bool = True) -> Program:
            return self  # a program has the mode that it was exported in; its module refuses to be asked

        def forward(self, *inputs: torch.Tensor) -> Any:
            given = iter(inputs)
            flat = [next(given) if leaf.is_tensor else leaf.value for leaf in leaves]
            args, kwargs = pytree.tree_unflatten(flat, spec)
            return self.network(*args, **kwargs)

    return Program().requires_grad_(requires_grad=False)


def _leaves(program: torch.export.ExportedProgram) -> list[_Leaf]:
    placeholders = {node.name for node in program.graph.nodes if node.op == "placeholder"}
    values = program.graph_signature.user_inputs
    return [_Leaf(value, None) if value in placeholders else _Leaf("", value) for value in values]


def _examples(program: torch.export.ExportedProgram) -> list[Any]:
    from torch.utils import _pytree as pytree

    return pytree.tree_leaves(program.example_inputs) if program.example_inputs else []


def _input(program: torch.export.ExportedProgram, leaf: _Leaf, example: Any) -> tuple[ComponentInput, list[int]]:
    """Return an input, and its axes of whose upper bound the program says nothing."""
    value = next(node.meta["val"] for node in program.graph.nodes if node.name == leaf.name)
    axes = [
        _extents(program, extent, None if example is None else example.shape[axis], axis)
        for axis, extent in enumerate(value.shape)
    ]
    low, tuned, high = (tuple(axis[part] for axis in axes) for part in range(3))
    dtype = str(value.dtype).removeprefix("torch.")
    given = ComponentInput(name=leaf.name, shape=tuned, min_shape=low, max_shape=high, dtype=dtype)
    return given, [axis for axis, (*_, bounded) in enumerate(axes) if not bounded]


def _extents(
    program: torch.export.ExportedProgram, extent: Any, example: int | None, axis: int
) -> tuple[int, int, int, bool]:
    """Return the smallest, tuned and largest extent of an axis, and whether the program bounds it.

    Two is torch's smallest when it means one.
    """
    import torch

    if not isinstance(extent, torch.SymInt):
        return int(extent), int(extent), int(extent), True
    expression = extent.node.expr
    ranges = program.range_constraints
    bounds = [
        expression.subs(
            {symbol: getattr(ranges[symbol], side) for symbol in expression.free_symbols if symbol in ranges}
        )
        for side in ("lower", "upper")
    ]
    low = int(bounds[0]) if bounds[0].is_Integer else 1  # torch's own infinity calls itself finite
    low = low if low > 2 else 1
    tuned = max(low, example or low)
    open_high = max(OPEN_BATCH, tuned) if axis == 0 else OPEN_GROWTH * tuned
    is_bounded = bool(bounds[1].is_Integer)
    high = int(bounds[1]) if is_bounded else open_high
    return low, min(tuned, high), high, is_bounded
