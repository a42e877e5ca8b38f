"""The API side of profiles: what the task engine asks of this service."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.internal.v1.profile_pb2 import ProfileOutcome, ProfileWork
from lathe.internal.v1.registry_service_pb2 import TaskSource
from lathe.optimizer.v1.profile_service_pb2 import ProfileResult, ProfileSpec, ProfileTask
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PACKAGE

from engines.runtimes import graph_runtime
from engines.spec.devices import load_catalog
from services.optimizer.profiles.rules import for_package, for_source, without_names
from services.platform.durations import whole_seconds
from services.siblings.fitting import check_inputs, description_of, formats_to_describe
from services.siblings.holds import Holds
from services.siblings.packages import read_manifest
from services.siblings.recipes import RecipeRequest, Recipes
from services.siblings.results import Results
from services.siblings.sources import Sources
from services.storage import ContentStore
from services.tasks.kind import PreparedTask, check_memory, with_reports

REPORTS = {"profile.json": "json_report", "profile.html": "html_report"}
"""Files of an outcome, and the fields of the result that name them."""


class ProfileKind:
    """Profiles, as the task engine sees them."""

    name = "profile"
    service = "lathe.optimizer.v1.ProfileService"
    collection = "profileTasks"
    task_type = ProfileTask
    outcome_type = ProfileOutcome

    def __init__(self, registry: grpc.aio.Channel, template: grpc.aio.Channel, cas: ContentStore) -> None:
        self._sources = Sources(registry, cas)
        self._recipes = Recipes(template)
        self._holds = Holds(registry)
        self._results = Results(registry)
        self._cas = cas

    def uses(self, spec: Message) -> Sequence[str]:
        """Return the version and the template."""
        assert isinstance(spec, ProfileSpec)
        return [name for name in (spec.model_version, spec.template) if name]

    def check(self, spec: Message) -> None:
        """Check the limits."""
        assert isinstance(spec, ProfileSpec)
        check_memory(spec.memory_limit_bytes)

    def figures(self, result: Message) -> Mapping[str, float]:
        """Return the shortest median latency and the highest throughput that were measured."""
        assert isinstance(result, ProfileResult)
        measured = [each for each in result.measurements if not each.HasField("failure")]
        if not measured:
            return {}
        fastest = min(each.latency.median_ms for each in measured)
        return {"median_ms": fastest, "samples_per_second": max(each.samples_per_second for each in measured)}

    async def prepare(self, spec: Message, project: str) -> PreparedTask:
        """Check everything that needs no engine, and gather all that a worker needs.

        Raises:
            LatheError: INVALID_ARGUMENT, NOT_FOUND or FAILED_PRECONDITION for what the caller can correct.
        """
        assert isinstance(spec, ProfileSpec)
        described = formats_to_describe(spec.tensor_information, has_samples=spec.HasField("test_data"))
        found = await self._sources.read(spec.model_version, described=described, project=project)
        if found.model_version.format == MODEL_FORMAT_PACKAGE:
            manifest = await read_manifest(self._cas, found.model_version)
            asked = for_package(spec, found.model_version, manifest)
            work = ProfileWork(package=found.model_version.files, spec=without_names(asked))
        else:
            asked = for_source(spec, found.model_version)
            work = await self._of_source(asked, found)
        if spec.HasField("test_data"):
            await self._sources.require_stored(spec.test_data, "test data")
        device = load_catalog().devices[asked.device]
        return PreparedTask(
            work=work,
            device=device.id,
            project=project or found.model.project,
            display_name=f"{found.model.display_name} {datetime.now():%Y-%m-%d %H:%M:%S}",
            timeout_seconds=whole_seconds(spec.timeout) or device.timeout_seconds,
            memory_limit_bytes=asked.memory_limit_bytes,
        )

    async def hold(self, task_name: str, spec: Message) -> bool:
        """Keep the version from being deleted while the task runs."""
        assert isinstance(spec, ProfileSpec)
        await self._holds.hold(task_name, [spec.model_version])
        return True

    async def renew(self, task_names: Sequence[str]) -> None:
        """Let the holds last for another hour."""
        await self._holds.renew(task_names)

    async def release(self, task_name: str, spec: Message) -> None:
        """End the hold."""
        assert isinstance(spec, ProfileSpec)
        await self._holds.release(task_name, [spec.model_version])

    async def complete(self, task: Message, outcome: Message, work: AnyMessage) -> ProfileResult:
        """Return the result with the digests of the stored reports."""
        assert isinstance(outcome, ProfileOutcome)
        result = with_reports(outcome.result, outcome.files, REPORTS)
        await self._results.keep(task, result)
        return result

    def unverified(self, outcome: Message) -> bool:
        """Return False: a profile is made on the device alone."""
        return False

    async def share(
        self, task: Message, original: Message, outcome: Message, work: AnyMessage, standing: Collection[str]
    ) -> Message | None:
        """Return the result of the same outcome; None if its reports are gone."""
        result = await self.complete(task, outcome, work)
        # The reports were stored together: one stands for all.
        return result if await self._cas.exists(result.json_report) else None

    async def _of_source(self, asked: ProfileSpec, found: TaskSource) -> ProfileWork:
        """Return the work that reads a source. The template's runtime only says how; each runtime is measured."""
        reading = graph_runtime(load_catalog().devices[asked.device])
        recipe = RecipeRequest(asked.template, asked.device, reading, has_options=False)
        template = await self._recipes.resolve(recipe, found.model_version, None)
        check_inputs(
            *(template, description_of(found), asked.tensor_information),
            has_samples=asked.HasField("test_data"),
            max_batch=max(asked.batch_sizes, default=0),
        )
        conversion = await self._sources.compose(
            found.model_version, template, seed=asked.seed, known=found.architectures
        )
        return ProfileWork(conversion=conversion, spec=without_names(asked))
