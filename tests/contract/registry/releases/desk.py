"""What tests of releases do again and again: packages, channels, promotions, and a look into the bucket."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Self

import grpc
from google.protobuf import text_format
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationSpec, EvaluationTask, Metric
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PACKAGE, Lineage, ModelVersion, PackageInfo
from lathe.registry.v1.release_service_pb2 import (
    Channel,
    CreateChannelRequest,
    GetChannelRequest,
    ListReleasesRequest,
    PromoteModelVersionRequest,
    PromotionRules,
    Release,
    RollBackRequest,
)
from lathe.type.v1.measurement_pb2 import VERDICT_PASS, ParityReport
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED, TaskStatus
from lathe.type.v1.view_pb2 import VIEW_FULL

from services.database.pool import Database
from services.platform.errors import LatheError, from_rpc_error
from services.platform.settings import Settings
from services.registry.releases.reconciler import Reconciler
from services.registry.releases.repository import ModelRepositories
from services.storage.bucket import Bucket
from tests.contract.registry import samples
from tests.contract.registry.conftest import Registry, unique


class Shelf:
    """The bucket, and what brings it in line with the rows."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.bucket = Bucket.of(settings)
        self.repositories = ModelRepositories(settings)
        self.reconciler = Reconciler(database, self.repositories)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        return cls(await Database.connect(settings.database_url, "registry"), settings)

    async def close(self) -> None:
        await self.database.close()

    def prefix(self, channel: str) -> str:
        return self.repositories.uri(channel).split("/", 3)[3] + "/"

    async def paths(self, channel: str) -> list[str]:
        """Return the paths of all files in a channel's repository."""
        prefix = self.prefix(channel)
        found = await self.bucket.run(lambda *_: list(self.bucket.objects(prefix)))
        return sorted(str(item.object_name).removeprefix(prefix) for item in found)

    async def read(self, channel: str, path: str) -> bytes:
        key = self.prefix(channel) + path
        return await self.bucket.run(lambda client, _: client.get_object(self.bucket.name, key).data)

    async def config(self, channel: str, model: str = "") -> Any:
        """Return the configuration of a Triton model, read by Triton's own message."""
        from tritonclient.grpc import model_config_pb2

        text = await self.read(channel, f"{model or channel.split('/')[1]}/config.pbtxt")
        return text_format.Parse(text.decode(), model_config_pb2.ModelConfig())

    async def served(self, channel: str) -> list[int]:
        """Return the versions that Triton would serve."""
        return list((await self.config(channel)).version_policy.specific.versions)

    async def marked(self, channel: str) -> bool:
        row = await self.database.fetchrow("SELECT 1 FROM unsettled_channels WHERE channel = $1", channel)
        return row is not None


def _content(path: str) -> bytes:
    """Return a model file of the kind that the path's ending says; its own path if it is none."""
    if path.endswith(".onnx"):
        return samples.onnx_model()
    return b'<net name="n" version="11"><layers/></net>' if path.endswith(".xml") else path.encode()


class Desk:
    """The registry, the evaluations that its evaluator knows, and the bucket."""

    def __init__(
        self, registry: Registry, evaluations: dict[str, EvaluationTask], shelf: Shelf, address: str = ""
    ) -> None:
        self.address = address
        self.registry = registry
        self.releases = registry.releases
        self.evaluations = evaluations
        self.shelf = shelf

    async def refused(self, call: Awaitable[object]) -> LatheError:
        return await self.registry.refused(call)

    async def refused_or(self, call: Awaitable[Release]) -> Release | LatheError:
        """Return what a call answers, or how it was refused."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)

    async def model(self) -> str:
        return await self.registry.model()

    async def package(
        self, model: str, *, parity: ParityReport | None = None, direct: bool = False, **manifest: Any
    ) -> str:
        """Add a package to a model, made by a task with the parity verdict PASS unless something else is said."""
        values = json.loads(samples.manifest()) | manifest
        files = [await self.registry.file("manifest.json", json.dumps(values).encode())]
        paths = [path for component in values["components"] for path in component["files"]]
        files += [await self.registry.file(path, _content(path)) for path in paths]
        reports = {each["name"]: parity or ParityReport(verdict=VERDICT_PASS) for each in values["components"]}
        version = ModelVersion(
            format=MODEL_FORMAT_PACKAGE,
            files=files,
            package=PackageInfo(repo="vision", package_name="digits", method="classify", version="1"),
            parity=None if direct else reports,
            lineage=None if direct else Lineage(task="conversionTasks/1"),
        )
        return (await self.registry.version(model, version)).name

    async def channel(self, model: str, rules: PromotionRules | None = None, channel_id: str = "production") -> str:
        request = CreateChannelRequest(
            parent=model, channel=Channel(display_name=channel_id, rules=rules), channel_id=channel_id
        )
        return (await self.releases.CreateChannel(request)).name

    async def released(self, count: int) -> tuple[str, list[str]]:
        """Return a channel, and the versions that were promoted in it one after the other."""
        model = await self.model()
        channel = await self.channel(model)
        versions = [await self.package(model) for _ in range(count)]
        for version in versions:
            await self.promote(channel, version)
        return channel, versions

    async def promote(self, channel: str, version: str, **more: Any) -> Release:
        return await self.releases.PromoteModelVersion(
            PromoteModelVersionRequest(name=channel, model_version=version, **more)
        )

    async def roll_back(self, channel: str, **more: str) -> Release:
        return await self.releases.RollBack(RollBackRequest(name=channel, **more))

    async def get(self, channel: str) -> Channel:
        return await self.releases.GetChannel(GetChannelRequest(name=channel))

    async def history(self, channel: str) -> list[Release]:
        request = ListReleasesRequest(parent=channel, page_size=1000, view=VIEW_FULL)
        answer = await self.releases.ListReleases(request)
        return list(answer.releases)

    def evaluation(
        self,
        version: str,
        figures: Mapping[str, float] | None = None,
        *,
        dataset: str = "datasets/digits",
        state: Any = TASK_STATE_SUCCEEDED,
        sliced: Sequence[tuple[str, str, float]] = (),
    ) -> str:
        """Let the evaluator know an evaluation of a version."""
        task = EvaluationTask(
            name=f"evaluationTasks/{unique('e')}",
            project="projects/default",
            spec=EvaluationSpec(model_version=version, dataset=dataset),
            status=TaskStatus(state=state),
        )
        for name, value in (figures or {}).items():
            task.result.metrics.add(name=name, value=value)
        task.result.metrics.extend(Metric(name=name, slice=part, value=value) for name, part, value in sliced)
        times = task.result.times
        times.throughput, times.peak_memory_bytes = 250.0, 1 << 20
        times.latency.median_ms, times.latency.p90_ms, times.latency.p99_ms = 4.0, 5.0, 9.0
        self.evaluations[task.name] = task
        return task.name
