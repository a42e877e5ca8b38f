"""The client: the steps of the usual job as methods, over the stubs of every service."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lathe_client.calls import repeated, resumed
from lathe_client.connection import Connection
from lathe_client.errors import ImportEndedError
from lathe_client.tasks import KINDS, Task, kind_of
from lathe_client.transfers import OnBytes, download_file, upload_file

if TYPE_CHECKING:
    from os import PathLike

    from lathe.converter.v1.conversion_service_pb2 import ConversionTask
    from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationTask
    from lathe.optimizer.v1.optimization_service_pb2 import OptimizationTask
    from lathe.optimizer.v1.profile_service_pb2 import ProfileTask
    from lathe.quantizer.v1.quantization_service_pb2 import QuantizationTask
    from lathe.registry.v1.model_service_pb2 import ModelVersion
    from lathe.type.v1.digest_pb2 import File

    AnyPath = str | PathLike[str]


IMPORTED_FROM = 256 << 20
"""Bytes from which a version is created in the background: below, one call is as quick."""


class Lathe(Connection):
    """A client of one installation.

    What a service refuses raises `LatheError`. `models`, `conversions` and so on are the generated stubs.
    """

    def upload(self, path: AnyPath, on_bytes: OnBytes = lambda count: None) -> Sequence[File]:
        """Store a file, or each file of a folder, and return them with their paths in the folder.

        A file that is stored already is not sent again; an interrupted upload continues if it is called again.

        Args:
            path: File or folder.
            on_bytes: Called with numbers of bytes as they are sent, for progress.

        Raises:
            OSError: A file cannot be read.
            TransferError: Parts did not arrive after several attempts.
            LatheError: The registry refuses.
        """
        from lathe.type.v1.digest_pb2 import File

        root = Path(path)
        found = sorted(each for each in root.rglob("*") if each.is_file()) if root.is_dir() else [root]
        within = root if root.is_dir() else root.parent
        return [
            File(path=each.relative_to(within).as_posix(), digest=upload_file(self, each, on_bytes)) for each in found
        ]

    def push(self, model: str, path: AnyPath, *, create: bool = True, **fields: Any) -> ModelVersion:
        """Upload a file or a folder and add it to a model as its next version.

        Args:
            model: `models/{model}`.
            path: File or folder.
            create: Creates the model if it does not exist.
            fields: Of the ModelVersion: `format`, `architecture`, `labels`…

        Raises:
            LatheError: The registry refuses; INVALID_ARGUMENT if the file is not what `format` says.
        """
        import grpc
        from lathe.registry.v1 import model_service_pb2 as pb

        files = self.upload(path)
        try:
            self.models.GetModel(pb.GetModelRequest(name=model))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND or not create:
                raise
            identifier = model.rpartition("/")[2]
            self.models.CreateModel(pb.CreateModelRequest(model=pb.Model(display_name=identifier), model_id=identifier))
        return self.create_version(model, pb.ModelVersion(files=files, **fields))

    def create_version(
        self, model: str, version: ModelVersion, on_progress: Callable[[float], None] = lambda part: None
    ) -> ModelVersion:
        """Add a version with files that are stored, in the background if there is much to read.

        Args:
            model: `models/{model}`.
            version: What to create.
            on_progress: Called with the part of a long import that is done, 0 to 1.

        Raises:
            LatheError: The registry refuses.
            ImportEndedError: A long import failed or was cancelled.
        """
        from lathe.registry.v1 import model_service_pb2 as pb

        token = str(uuid.uuid4())
        if sum(file.digest.size_bytes for file in version.files) <= IMPORTED_FROM:
            request = pb.CreateModelVersionRequest(parent=model, model_version=version, request_id=token)
            made: ModelVersion = repeated(self.models.CreateModelVersion, request)
        else:
            made = self._imported(model, version, token, on_progress)
        return made

    def _imported(
        self, model: str, version: ModelVersion, token: str, on_progress: Callable[[float], None]
    ) -> ModelVersion:
        from lathe.registry.v1 import model_service_pb2 as pb
        from lathe.type.v1.operation_pb2 import OPERATION_STATE_SUCCEEDED

        begin = pb.CreateModelVersionImportRequest(parent=model, request_id=token)
        begin.model_version_import.model_version.CopyFrom(version)
        begun = repeated(self.models.CreateModelVersionImport, begin)
        watch = pb.WatchModelVersionImportRequest(name=begun.name)
        for begun in resumed(self.models.WatchModelVersionImport, watch, lambda _: None):
            on_progress(begun.progress)
        if begun.state != OPERATION_STATE_SUCCEEDED:
            raise ImportEndedError(begun)
        found: ModelVersion = self.models.GetModelVersion(pb.GetModelVersionRequest(name=begun.created_version))
        return found

    def download(self, version: str, folder: AnyPath, on_bytes: OnBytes = lambda count: None) -> None:
        """Fetch the files of a model version into a folder; each appears once its digest is right.

        Raises:
            TransferError: Bytes do not arrive, or are not those of the digest.
            LatheError: There is no such version.
        """
        from lathe.registry.v1.model_service_pb2 import GetModelVersionRequest

        for file in self.models.GetModelVersion(GetModelVersionRequest(name=version)).files:
            download_file(self, file.digest, Path(folder) / file.path, on_bytes)

    def convert(self, model_version: str, template: str, **fields: Any) -> Task[ConversionTask]:
        """Create a task that converts a version with a template; `fields` as of `create`."""
        return self.create("conversion", model_version=model_version, template=template, **fields)

    def quantize(self, model_version: str, **fields: Any) -> Task[QuantizationTask]:
        """Create a task that quantizes a version; `fields` as of `create`."""
        return self.create("quantization", model_version=model_version, **fields)

    def optimize(self, model_version: str, device: str, **fields: Any) -> Task[OptimizationTask]:
        """Create a task that searches for the fastest form of a version on a device; `fields` as of `create`."""
        return self.create("optimization", model_version=model_version, device=device, **fields)

    def profile(self, model_version: str, **fields: Any) -> Task[ProfileTask]:
        """Create a task that measures a version as it is; `fields` as of `create`."""
        return self.create("profile", model_version=model_version, **fields)

    def evaluate(self, model_version: str, dataset: str, **fields: Any) -> Task[EvaluationTask]:
        """Create a task that evaluates a version on a dataset; `fields` as of `create`."""
        return self.create("evaluation", model_version=model_version, dataset=dataset, **fields)

    def create(
        self,
        kind: str,
        *,
        display_name: str = "",
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        skip_cache: bool = False,
        **spec: Any,
    ) -> Task[Any]:
        """Create a task of a kind.

        Args:
            kind: `conversion`, `quantization`, `optimization`, `profile`, `evaluation`…
            display_name: Name for people; made by the service if empty.
            labels: Labels of the task.
            request_id: Makes a repeat return the first task: a UUID; a new one if empty, so that a call
                whose answer was lost is repeated safely.
            skip_cache: Does the work even if an equal task has done it.
            spec: Fields of the kind's specification.

        Raises:
            ValueError: There is no such kind, or the specification has no such field.
            LatheError: The service refuses.
        """
        if kind not in KINDS:
            raise ValueError(f"there is no kind of task {kind!r}; kinds are {', '.join(KINDS)}")
        made = KINDS[kind]
        title = kind.capitalize()
        task = made.message(f"{title}Task")(
            display_name=display_name, labels=labels or {}, spec=made.message(f"{title}Spec")(**spec)
        )
        request = made.request("Create", task=task, request_id=request_id or str(uuid.uuid4()), skip_cache=skip_cache)
        return Task(self, repeated(made.method(self, "Create"), request))

    def task(self, name: str) -> Task[Any]:
        """Return a task that exists: `conversionTasks/{task}`.

        Raises:
            ValueError: The name is not that of a task.
            LatheError: It does not exist.
        """
        return Task(self, kind_of(name).call(self, "Get", name=name))
