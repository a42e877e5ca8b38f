"""Reads a component, and makes its graph ready for builders when one takes it: the first half of every job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from engines.formats.protocol import ReadJob
from engines.formats.reading import Reader, read_source, with_inputs
from engines.formats.source import Source
from engines.graph.execution import make_ready
from engines.runtimes.source import BuildSource, Function, Network, Unprocessed
from engines.spec.request import ConversionRequest
from engines.spec.source_files import file_inside
from engines.spec.template import Component, Execution
from engines.tensors.inputs import ComponentInput, active_steps, batched_network_inputs, network_dtype, package_inputs
from engines.tensors.preprocessing import preprocess
from engines.tensors.samples import SampleRange, Samples, SampleSource, generated
from engines.tensors.signature import Signature, TensorSpec
from engines.tensors.user_samples import from_npz

log = logging.getLogger(__name__)

Progress = Callable[[float, str], None]
"""Takes the fraction that is done, and what is being done."""


@dataclass(frozen=True)
class Prepared:
    """A component that was read and made ready.

    Attributes:
        component: The component, its inputs declared.
        source: The original, and its graph as it was read.
        make_ready: Makes the graph that builders take; `ready` calls it once.
        signature: Interface of the package, the inputs as the template declares them.
        ranges: Values that random inputs take, by input.
        samples: Feeds of the package: the user's, else random ones.
        notes: Warnings about its inputs.
        make_unprocessed: Makes the graph without preprocessing, once; None if nobody can.
    """

    component: Component
    source: Source
    make_ready: Callable[[], Path]
    signature: Signature
    ranges: dict[str, SampleRange]
    samples: Samples
    notes: tuple[str, ...] = ()
    make_unprocessed: Callable[[], Path] | None = None

    @cached_property
    def ready(self) -> Path:
        """The graph that builders take: tidied, preprocessing baked in. Made when it is first asked for.

        Raises:
            EngineFailure: whatever exporting fails with.
        """
        return self.make_ready()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the inputs, the source, and its graph if that was made."""
        return (*self.notes, *self.source.warnings)

    def build_source(self) -> BuildSource:
        """Return what runtimes build from: the ready graph, and the network in its own framework if there is one.

        The network is traced with the smallest feed of more than one sample if the batch is dynamic: an exporter takes
        an axis of one for a fixed one.
        """
        feeds = self.samples.feeds
        batched = [spec for spec in self.signature.inputs if spec.batch_axis in spec.dynamic_axes]
        several = (feed for feed in feeds if all(feed[spec.name].shape[spec.batch_axis] > 1 for spec in batched))
        module, steps, called = self.source.module, self.source.preprocessing, self.source.tensorflow
        network = Network(module, steps, next(several, feeds[0])) if module is not None else None
        dtypes = [spec.dtype for spec in self.source.signature.inputs]
        function = Function(called.call, called.owner, dtypes, steps) if called is not None else None
        own = self.source.files
        return BuildSource(self.signature, lambda: self.ready, network, own, self._unprocessed(), function)

    def _unprocessed(self) -> Unprocessed | None:
        if self.make_unprocessed is None:
            return None
        inputs = batched_network_inputs(self.component.inputs, self.component.largest_batch)
        return Unprocessed(self.make_unprocessed, inputs, active_steps(self.component.inputs))


def prepare(
    request: ConversionRequest,
    component: Component,
    workdir: Path,
    progress: Progress,
    execution: Execution | None = None,
    *,
    reader: Reader = read_source,
) -> Prepared:
    """Read one component; its graph is made when it is taken. Intermediate files are in `workdir/scratch/<component>`.

    Args:
        request: How it is read.
        component: Which component.
        workdir: Where the request's files are.
        progress: Told 0.05 when reading begins.
        execution: How the graph is made ready; as the template says if None.
        reader: Reads the component; by the template's format if not given.

    Raises:
        EngineFailure: whatever step fails, with its reason.
    """
    scratch = workdir / "scratch" / component.name
    scratch.mkdir(parents=True, exist_ok=True)
    component, warnings = with_inputs(request, component, workdir)
    for words in warnings:
        log.info("%s: %s", component.name, words)
    inputs = package_inputs(component.inputs, component.largest_batch)
    ranges = {given.name: _range(given) for given in component.inputs}
    samples = _samples(request, component, workdir, inputs, ranges)
    ranges = {spec.name: _with_scalar(ranges[spec.name], spec, samples) for spec in inputs}

    progress(0.05, f"{component.name}: reading the model")
    feed = samples.feeds[0]
    arguments = [preprocess(feed[given.name], given.steps, network_dtype(given)) for given in component.inputs]
    source = reader(ReadJob(request, component, workdir, arguments, scratch / "source.onnx"))
    log.info("%s: read", component.name)

    def write(path: Path, preprocessed: Sequence[ComponentInput]) -> Path:
        graph = source.graph
        log.info("%s: written by %s: %d bytes of ONNX", component.name, graph.writer, graph.path.stat().st_size)
        steps = make_ready(graph.path, path, preprocessed, execution or request.template.execution)
        log.info("%s: made ready: %s", component.name, " → ".join(steps))
        return path

    @cache  # for copies of the component with other samples, too
    def ready() -> Path:
        return write(scratch / "ready.onnx", component.inputs)

    @cache
    def unprocessed() -> Path:
        return write(scratch / "unprocessed.onnx", ())

    signature = Signature(inputs, source.signature.outputs)
    return Prepared(component, source, ready, signature, ranges, samples, warnings, unprocessed)


def _range(given: ComponentInput) -> SampleRange:
    steps = given.preprocessing
    return SampleRange(given.sample_min, given.sample_max, steps.active, steps.nv12, given.sample_values)


def _with_scalar(values: SampleRange, spec: TensorSpec, samples: Samples) -> SampleRange:
    """Return the values of an input; those of a scalar are the user's own, as others may be meaningless."""
    if spec.max or not spec.known or values.values or samples.source != SampleSource.USER:
        return values
    scalar = samples.feeds[0][spec.name]
    return replace(values, values=(float(scalar),)) if scalar.dtype.kind in "biuf" else values


def _samples(
    request: ConversionRequest,
    component: Component,
    workdir: Path,
    inputs: tuple[TensorSpec, ...],
    ranges: dict[str, SampleRange],
) -> Samples:
    if request.samples_path:
        path = file_inside(workdir, request.samples_path)
        return from_npz(path, component.name, inputs, ranges, only=request.is_first(component))
    return generated(inputs, ranges, request.seed)
