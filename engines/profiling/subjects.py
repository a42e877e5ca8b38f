"""What is profiled: each component of a package as it was built, or of a source as each runtime builds it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.failures import EngineFailure, FailureReason, first_line, invalid
from engines.formats.preparation import Prepared, Progress, prepare
from engines.formats.reading import check_sources, with_components
from engines.graph.hygiene import load_model
from engines.graph.quantized import quantized_nodes
from engines.package.manifest import ComponentEntry, Tensor, read_manifest
from engines.package.opening import component_form
from engines.profiling.feeds import Feeds, user_samples
from engines.profiling.request import ProfileRequest
from engines.runtimes import GRAPH, BuildOptions, Runtime, check_timed, installed, runtime
from engines.runtimes.form import FormSpec, Made
from engines.runtimes.knobs import STREAMS
from engines.runtimes.refusals import crashed
from engines.spec.devices import load_catalog
from engines.spec.request import ConversionRequest
from engines.spec.source_files import TEST_DATA
from engines.spec.template import Component
from engines.tensors.preprocessing import Preprocessing
from engines.tensors.samples import SampleRange
from engines.tensors.signature import TensorSpec

log = logging.getLogger(__name__)

PACKAGE_DIR = "package"


@dataclass(frozen=True)
class Form:
    """A form to measure.

    Attributes:
        spec: Its runtime, precision and streams.
        made: The built form; None if it could not be built.
        failure: Why it could not.
        build_seconds: Time that building took; 0 for a form of a package.
    """

    spec: FormSpec
    made: Made | None = None
    failure: EngineFailure | None = None
    build_seconds: float = 0.0


@dataclass(frozen=True)
class Subject:
    """One component.

    Attributes:
        component: Its name.
        feeds: Its feeds.
        forms: Yields its forms, each built when it is asked for.
        warnings: Yields warnings for the user, once the forms are built.
    """

    component: str
    feeds: Feeds
    forms: Callable[[], Iterator[Form]]
    warnings: Callable[[], Sequence[str]]


def subjects(request: ProfileRequest, workdir: Path, progress: Progress) -> Iterator[Subject]:
    """Yield the components of what is profiled.

    Args:
        request: The request.
        workdir: Folder of the inputs: the package in `package/`, or a source as a conversion has it; the user's test
            data at `samples/test.npz`.
        progress: Told 0.05 when a source is read.

    Raises:
        EngineFailure: The package or the source cannot be read, or its data do not fit.
    """
    if request.conversion is None:
        yield from _of_package(request, workdir)
    else:
        yield from _of_source(request, request.conversion, workdir, progress)


def _of_package(request: ProfileRequest, workdir: Path) -> Iterator[Subject]:
    directory = workdir / PACKAGE_DIR
    manifest = read_manifest(directory)
    for entry in manifest.components:
        form = component_form(directory, manifest, entry)
        check_timed(runtime(form.runtime), load_catalog().device(form.device))
        spec = FormSpec(form.runtime, form.precision)
        inputs = [_spec_of(tensor) for tensor in entry.signature.inputs]
        ranges = {tensor.name: _range_of(tensor, entry) for tensor in entry.signature.inputs}
        given = user_samples(workdir / TEST_DATA, entry.name, inputs, ranges, first=entry is manifest.components[0])
        feeds = Feeds(entry.name, inputs, ranges, request.spec.seed, given)
        made = Form(spec, Made(spec, form))
        yield Subject(entry.name, feeds, lambda made=made: iter([made]), tuple)  # type: ignore[misc]  # bound now


def _spec_of(tensor: Tensor) -> TensorSpec:
    return TensorSpec.from_dict(tensor.model_dump(exclude={"range", "value"}, exclude_none=True))


def _range_of(tensor: Tensor, component: ComponentEntry) -> SampleRange:
    low, high = tensor.range or (0.0, 0.0)
    steps = component.preprocessing.get(tensor.name, Preprocessing())
    return SampleRange(low, high, steps.active, steps.nv12, tensor.value or ())


def _of_source(
    request: ProfileRequest, conversion: ConversionRequest, workdir: Path, progress: Progress
) -> Iterator[Subject]:
    check_sources(conversion)
    conversion = with_components(conversion, workdir)
    for component in conversion.template.components:
        prepared = prepare(conversion, component, workdir, progress)
        inputs, path = prepared.signature.inputs, workdir / TEST_DATA
        given = user_samples(path, component.name, inputs, prepared.ranges, first=conversion.is_first(component))
        feeds = Feeds(component.name, inputs, prepared.ranges, request.spec.seed, given)
        builder = _Builder(request, component, prepared, workdir / "scratch" / component.name / "forms")
        yield Subject(component.name, feeds, builder.forms, lambda prepared=prepared: prepared.warnings)  # type: ignore[misc]


@dataclass(frozen=True)
class _Builder:
    """Builds a component for every runtime that is asked for."""

    request: ProfileRequest
    component: Component
    prepared: Prepared
    folder: Path

    def forms(self) -> Iterator[Form]:
        device, source = load_catalog().device(self.request.device), self.prepared.build_source()
        asked = self.request.spec.runtimes
        names = asked or [room.name for room in installed(device) if not set(room.takes).isdisjoint(source.offers)]
        for name in names:
            for streams in self.request.spec.streams or (1,):
                knobs = ((STREAMS.name, str(streams)),) if streams > 1 else ()
                yield self._built(FormSpec(name, "FP32", knobs=knobs))

    def _built(self, spec: FormSpec) -> Form:
        start = time.monotonic()
        try:
            room, target = runtime(spec.runtime), load_catalog().device(self.request.device)
            check_timed(room, target)
            _check_streams(room, spec)
            source = self.prepared.build_source()
            if source.form_for(room.title, room.takes) == GRAPH and quantized_nodes(load_model(self.prepared.ready)):
                spec = FormSpec(spec.runtime, "INT8", knobs=spec.knobs)
            folder = self.folder / f"{spec.runtime}-{spec.knob(STREAMS.name, '1')}"
            form = room.build(source, target, BuildOptions(spec.precision, dict(spec.knobs)), folder)
        except EngineFailure as failure:
            log.info("%s: %s: %s", self.component.name, spec.name, failure.message)
            return Form(spec, failure=failure)
        except MemoryError:
            words = f"There is not enough memory to build {spec.name}."
            return Form(spec, failure=EngineFailure(FailureReason.OUT_OF_MEMORY, words))
        except Exception as error:  # a runtime's tools may raise anything, and other forms do not depend on it
            log.exception("%s: %s could not be built: %s", self.component.name, spec.name, first_line(error))
            return Form(spec, failure=crashed(spec.runtime, f"build {spec.name}", error))
        seconds = time.monotonic() - start
        log.info("%s: %s built in %.1f s, %d bytes", self.component.name, spec.name, seconds, form.size_bytes)
        return Form(spec, Made(spec, form), build_seconds=seconds)


def _check_streams(room: Runtime, spec: FormSpec) -> None:
    if spec.knobs and STREAMS.name not in {knob.name for knob in room.knobs}:
        raise invalid(f"{room.title} computes one call at a time: it has no streams.", "Leave the streams out for it.")
