"""The API side of optimizations: what the task engine asks of this service."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.internal.v1.optimization_pb2 import OptimizationOutcome, OptimizationWork
from lathe.optimizer.v1.optimization_service_pb2 import OptimizationResult, OptimizationSpec, OptimizationTask
from lathe.type.v1.precision_pb2 import PRECISION_INT8

from engines.quantization.request import DEFAULT_SAMPLES
from engines.runtimes import graph_runtime, keep_timings
from engines.spec.devices import load_catalog
from services.database.pool import Database
from services.optimizer.places import Places
from services.optimizer.records import Record, Records
from services.optimizer.rules import (
    JUDGED_SAMPLES,
    RECORD_FILE,
    judges,
    normalized,
    place_of,
    require_the_source_itself,
    time_limit,
)
from services.siblings.datasets import Datasets
from services.siblings.fitting import check_inputs, description_of, formats_to_describe
from services.siblings.holds import Holds
from services.siblings.packages import Packages, manifest_of, require_target
from services.siblings.recipes import RecipeRequest, Recipes
from services.siblings.results import Results
from services.siblings.sources import Sources, files_digest, require_same_architectures
from services.storage import ContentStore
from services.tasks.kind import PreparedTask

# Fields that name a resource, or do not change the work: equal work is equal bytes.
_NAMES = (
    "model_version",
    "template",
    "dataset",
    "output_model",
    "output_location",
    "timeout",
)

HTML_REPORT = "optimization.html"


class OptimizationKind:
    """Optimizations, as the task engine sees them. Success registers nothing: SaveModel does."""

    name = "optimization"
    service = "lathe.optimizer.v1.OptimizationService"
    collection = "optimizationTasks"
    task_type = OptimizationTask
    outcome_type = OptimizationOutcome

    def __init__(
        self, registry: grpc.aio.Channel, template: grpc.aio.Channel, cas: ContentStore, database: Database
    ) -> None:
        self._sources = Sources(registry, cas)
        self._recipes = Recipes(template)
        self._datasets = Datasets(registry)
        self._holds = Holds(registry)
        self._results = Results(registry)
        self._cas = cas
        self._places = Places(database, Packages(registry, cas).exists)
        self._records = Records(database)

    def uses(self, spec: Message) -> Sequence[str]:
        """Return version, dataset, template and output model."""
        assert isinstance(spec, OptimizationSpec)
        return list(dict.fromkeys(name for name in (*_read(spec), spec.template, spec.output_model) if name))

    def check(self, spec: Message) -> None:
        """Check what needs no version."""
        assert isinstance(spec, OptimizationSpec)
        normalized(spec)

    def figures(self, result: Message) -> Mapping[str, float]:
        """Return the speed-up."""
        assert isinstance(result, OptimizationResult)
        return {"speedup": result.optimization_result.speedup}

    async def prepare(self, spec: Message, project: str) -> PreparedTask:
        """Find out how the source is read, have items chosen, and gather all that a worker needs.

        Raises:
            LatheError: INVALID_ARGUMENT, NOT_FOUND or FAILED_PRECONDITION for what the caller can correct.
        """
        assert isinstance(spec, OptimizationSpec)
        asked = normalized(spec)
        device = load_catalog().devices[asked.device]
        # What fits into memory is part of what the search finds.
        asked.memory_limit_bytes = asked.memory_limit_bytes or device.memory_limit_bytes
        if asked.output_location:
            await self._places.refuse_overlap(place_of("", asked), spec.model_version)
        text, has_samples = asked.tensor_information, asked.HasField("test_data")
        found = await self._sources.read(
            spec.model_version,
            output_model=spec.output_model,
            described=formats_to_describe(text, has_samples=has_samples),
            project=project,
        )
        if spec.output_model:
            require_target(found.model, project)
        source, own = await self._sources.original(found)
        require_the_source_itself(found.model_version, source)
        # The template's runtime only says how the source is read; the search tries every runtime.
        recipe = RecipeRequest(spec.template, spec.device, graph_runtime(device), has_options=False)
        template = await self._recipes.resolve(recipe, source, own)
        check_inputs(template, description_of(found), text, has_samples=has_samples, max_batch=asked.max_batch)
        conversion = await self._sources.compose(source, template, seed=asked.seed, known=found.architectures)
        if own is not None:
            require_same_architectures(conversion, found.model_version)
        bare = OptimizationWork(conversion=conversion, spec=asked)
        await self._choose(bare, asked)
        _forget_names(bare.spec)
        project = project or found.model.project
        return PreparedTask(
            work=await self._with_record(bare, device.id, project),
            bare=bare,
            device=device.id,
            project=project,
            display_name=f"{found.model.display_name} {datetime.now():%Y-%m-%d %H:%M:%S}",
            timeout_seconds=time_limit(asked, device),
            memory_limit_bytes=asked.memory_limit_bytes,
            owned=keep_timings(device.buildable_runtimes),
        )

    async def hold(self, task_name: str, spec: Message) -> bool:
        """Take the task's place in the bucket, and keep version and dataset from being deleted while it runs."""
        assert isinstance(spec, OptimizationSpec)
        await self._places.take(task_name, place_of(task_name, spec))
        await self._holds.hold(task_name, _read(spec))
        return True

    async def renew(self, task_names: Sequence[str]) -> None:
        """Let the holds last for another hour."""
        await self._holds.renew(task_names)

    async def release(self, task_name: str, spec: Message) -> None:
        """End the holds, and free the place unless a model was saved there."""
        assert isinstance(spec, OptimizationSpec)
        await self._places.release(task_name)
        await self._holds.release(task_name, _read(spec))

    async def complete(self, task: Message, outcome: Message, work: AnyMessage) -> Message:
        """Remember the record of the search, and return what it found."""
        assert isinstance(task, OptimizationTask)
        assert isinstance(outcome, OptimizationOutcome)
        source, _ = await self._sources.original(await self._sources.read(task.spec.model_version))
        digest = files_digest(source.files)
        for file in outcome.files:
            if file.path == RECORD_FILE:
                await self._records.add(digest, task.device, Record(file.digest, task.name), task.project)
        earlier = {each.measured_by for each in outcome.result.candidates if each.measured_by}
        result = result_of(outcome, await self._records.writers(earlier, task.project))
        await self._results.keep(task, result)
        return result

    def unverified(self, outcome: Message) -> bool:
        """Return False: an optimization is made on the device alone."""
        return False

    async def share(
        self, task: Message, original: Message, outcome: Message, work: AnyMessage, standing: Collection[str]
    ) -> Message | None:
        """Return the result of the original, not saved yet; None if its files are gone."""
        assert isinstance(task, OptimizationTask)
        assert isinstance(original, OptimizationTask)
        assert isinstance(outcome, OptimizationOutcome)
        # The files were stored together: one stands for all.
        if not await self._cas.exists(manifest_of(outcome.files)):
            return None
        if original.result.files and original.project == task.project:
            return unsaved(original.result)
        # Of another project, it may name tasks whose records it used.
        return await self.complete(task, outcome, work)

    async def _choose(self, work: OptimizationWork, asked: OptimizationSpec) -> None:
        """Have the items of the dataset chosen, and check that the arrays that the specification names are stored."""
        if asked.HasField("calibration_samples"):
            await self._sources.require_stored(asked.calibration_samples, "calibration samples")
        if asked.HasField("test_data"):
            await self._sources.require_stored(asked.test_data, "test data")
        if not asked.dataset:
            return
        dataset = await self._datasets.ready(asked.dataset)
        if judges(asked, dataset, work.conversion.template):
            work.evaluation.CopyFrom(await self._datasets.select(asked.dataset, JUDGED_SAMPLES, asked.seed))
        if asked.precision_goal == PRECISION_INT8 and not asked.HasField("calibration_samples"):
            work.calibration.CopyFrom(await self._datasets.select(asked.dataset, DEFAULT_SAMPLES, asked.seed))

    async def _with_record(self, bare: OptimizationWork, device: str, project: str) -> OptimizationWork:
        """Return the work with the project's newest record of the same source, if there is one."""
        found = await self._records.newest(bare.conversion.source_digest, device, project)
        work = OptimizationWork()
        work.CopyFrom(bare)
        if found is not None and await self._cas.exists(found.digest):
            work.record.CopyFrom(found.digest)
        return work


def _read(spec: OptimizationSpec) -> list[str]:
    """Return the names of what the worker reads."""
    return [name for name in (spec.model_version, spec.dataset) if name]


def _forget_names(spec: OptimizationSpec) -> None:
    message: Message = spec
    for field in _NAMES:
        message.ClearField(field)


def result_of(outcome: OptimizationOutcome, writers: Mapping[str, str]) -> OptimizationResult:
    """Return the result of a task; nothing is registered yet.

    Args:
        outcome: What the worker made.
        writers: The tasks that wrote earlier records, by the sha256 of the record: candidates that were not measured
            again name their record.
    """
    result = OptimizationResult()
    result.CopyFrom(outcome.result)
    del result.files[:]
    result.files.extend(outcome.files)
    result.manifest.CopyFrom(manifest_of(outcome.files))
    for file in outcome.files:
        if file.path == HTML_REPORT:
            result.html_report.CopyFrom(file.digest)
    for candidate in result.candidates:
        if candidate.measured_by:
            candidate.measured_by = writers.get(candidate.measured_by, "")
    return unsaved(result)


def unsaved(result: OptimizationResult) -> OptimizationResult:
    """Return a result as it is before its model is saved: each task saves for itself."""
    made = OptimizationResult()
    made.CopyFrom(result)
    made.model_version = made.saved_location = ""
    return made
