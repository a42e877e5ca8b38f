"""Finds the first node, in topological order, at which a built form differs from its source.

First the graph runs in a reference session, ONNX Runtime without optimisations, and is compared with the source. If it
differs more from the source than the built form differs from it, the export is wrong, and the outputs of the source's
modules are compared with the graph's values for them. Otherwise the builder is wrong: every intermediate value of the
graph becomes an output, some at a time, the result is built like the form, and compared with the reference. An exposed
value cannot be fused away, so a fault of a fusion may hide; then the output's own node is named.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engines.failures import EngineFailure
from engines.formats.torch_export.forward import run_module
from engines.graph.hygiene import load_model, save_model
from engines.graph.instrumentation import Value, expose_intermediates, list_values
from engines.graph.scopes import scopes
from engines.runtimes import BuildOptions, BuildSource, Runtime
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.spec.devices import Device
from engines.spec.tolerances import Tolerance
from engines.tensors import Array, Arrays
from engines.tensors.errors import tensor_error
from engines.tensors.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch

T = TypeVar("T")

VALUES_AT_A_TIME = 48
"""Values that one instrumented graph exposes, which bounds memory and the number of builds."""
BUDGET_SECONDS = 60.0
MOST_BYTES = 2**29
"""Most bytes of activations that are kept, 512 MiB; modules that run after that are not compared."""


@dataclass(frozen=True)
class Divergence:
    """The first diverging node, the module of the network that it is part of, and a remark if that is uncertain."""

    node: str
    operator: str
    error: float
    module: str = ""
    remark: str = ""

    def __str__(self) -> str:
        """Return the finding in words."""
        where = f"node '{self.node}' ({self.operator})"
        if self.module:
            where += f", module '{self.module}' of the network"
        return f"{where}, relative error {self.error:.3g}" + (f"; {self.remark}" if self.remark else "")


@dataclass(frozen=True)
class Suspect:
    """A form that diverged, with everything needed to examine it.

    Attributes:
        make_graph: Returns the graph that was built; called only if something diverges.
        signature: Its interface.
        runtime: Runtime that it was built for.
        target: Device that it was built for.
        precision: Its precision.
        threads: Threads of every session.
        tolerance: Tolerance of its outputs; a value over the threshold diverges.
        network: The torch network behind the graph, if there is one.
        prepare: Turns a feed of the graph into the network's arguments: applies preprocessing that is baked in.
        knobs: The knobs that it was built with.
    """

    make_graph: Callable[[], Path]
    signature: Signature
    runtime: Runtime
    target: Device
    precision: str
    threads: int
    tolerance: Tolerance
    network: torch.nn.Module | None = None
    prepare: Callable[[Mapping[str, Array]], list[Array]] | None = None
    knobs: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @cached_property
    def onnx_path(self) -> Path:
        """The graph."""
        return self.make_graph()


def locate(suspect: Suspect, feed: Mapping[str, Array], expected: Arrays, actual: Arrays) -> Divergence:
    """Return the first diverging node on one feed.

    Args:
        suspect: The form that diverged.
        feed: A feed on which it does.
        expected: The source's outputs.
        actual: The built form's outputs.
    """
    model = load_model(suspect.onnx_path)
    values = list_values(model)
    worst = max(expected, key=lambda name: tensor_error(expected[name], actual[name]))
    fallback = _producer(values, worst, tensor_error(expected[worst], actual[worst]))
    reference = _reference(suspect, suspect.onnx_path, feed)
    deadline = time.monotonic() + BUDGET_SECONDS
    of_export, of_build = (largest_error(*pair) for pair in ((expected, reference), (reference, actual)))
    try:
        if of_export > suspect.tolerance.threshold and of_export >= of_build:
            found, remark = _wrong_module(suspect, model, feed), "the export differs from the network"
        else:
            found, remark = _wrong_build(suspect, model, feed, deadline), "no earlier value diverges when exposed"
    except EngineFailure as error:
        found, remark = None, f"the graph could not be examined: {error.message}"
    return found or dataclasses.replace(fallback, remark=remark)


def _wrong_module(suspect: Suspect, model: onnx.ModelProto, feed: Mapping[str, Array]) -> Divergence | None:
    if suspect.network is None or suspect.prepare is None:
        return None
    outputs = module_outputs(suspect.network, suspect.prepare(feed))
    by_name = {value.name: value for value in list_values(model)}
    pairs = values_of_modules(model.graph.node, outputs.keys())
    for chunk in _chunks(list(pairs.items())):
        with _exposed(suspect, model, [name for _, name in chunk]) as path:
            computed = _reference(suspect, path, feed)
        for module, name in chunk:
            if computed[name].shape != outputs[module].shape:
                continue
            error = tensor_error(outputs[module], computed[name])
            if error > suspect.tolerance.threshold:
                return Divergence(by_name[name].node, by_name[name].operator, error, module)
    return None


def _wrong_build(
    suspect: Suspect, model: onnx.ModelProto, feed: Mapping[str, Array], deadline: float
) -> Divergence | None:
    for chunk in _chunks([value for value in list_values(model) if value.operator != "Constant"]):
        if time.monotonic() > deadline:
            return None
        with _exposed(suspect, model, [value.name for value in chunk]) as path:
            expected = _reference(suspect, path, feed)
            actual = _build_and_run(suspect, path, list(expected), feed)
        for value in chunk:
            if expected[value.name].dtype.kind != "f":
                continue
            error = tensor_error(expected[value.name], actual[value.name])
            if error > suspect.tolerance.threshold:
                return Divergence(value.node, value.operator, error, value.module)
    return None


@contextmanager
def _exposed(suspect: Suspect, model: onnx.ModelProto, names: Sequence[str]) -> Iterator[Path]:
    """Yield the file of the graph with more outputs, in a directory of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=suspect.onnx_path.parent) as directory:
        path = Path(directory) / "exposed.onnx"
        save_model(expose_intermediates(model, names), path)
        yield path


def _build_and_run(suspect: Suspect, path: Path, names: Sequence[str], feed: Mapping[str, Array]) -> Arrays:
    outputs = tuple(TensorSpec.unknown(name, "float32") for name in names)
    source = BuildSource.of_file(path, Signature(suspect.signature.inputs, outputs))
    options = BuildOptions(suspect.precision, suspect.knobs)
    form = suspect.runtime.build(source, suspect.target, options, path.parent / "built")
    with suspect.runtime.open(form, suspect.target, suspect.threads) as session:
        return session.run(feed)


def _reference(suspect: Suspect, path: Path, feed: Mapping[str, Array]) -> Arrays:
    """Return the outputs of a graph without optimisations."""
    with OnnxRuntimeSession(path, suspect.threads, optimise=False) as session:
        return session.run(feed)


def _producer(values: Sequence[Value], output: str, error: float) -> Divergence:
    for value in values:
        if value.name == output:
            return Divergence(value.node, value.operator, error, value.module)
    return Divergence(output, "", error)


def largest_error(expected: Mapping[str, Array], actual: Mapping[str, Array]) -> float:
    """Return the largest relative error over all outputs."""
    return max(tensor_error(expected[name], actual[name]) for name in expected)


def _chunks(values: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(values), VALUES_AT_A_TIME):
        yield values[start : start + VALUES_AT_A_TIME]


def module_outputs(network: torch.nn.Module, samples: Sequence[Array]) -> Arrays:
    """Return the output of each module's first call, by its dotted path, in the order in which they end."""
    import torch

    found: Arrays = {}
    room = MOST_BYTES

    def keep(path: str, value: Any) -> None:
        nonlocal room
        if isinstance(value, torch.Tensor) and path not in found and value.nbytes <= room:
            room -= value.nbytes
            found[path] = value.detach().float().numpy().copy()

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, value, path=path: keep(path, value))
        for path, module in network.named_modules()
        if path
    ]
    try:
        run_module(network, samples)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def values_of_modules(nodes: Sequence[Any], modules: Collection[str]) -> dict[str, str]:
    """Return the last value that a node of each module computes, by module, in the order of the nodes."""
    last: dict[str, str] = {}
    for node in nodes:
        for path in scopes(node):
            if path in modules and node.output[0]:
                last.pop(path, None)
                last[path] = node.output[0]
    return last
