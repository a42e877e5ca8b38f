"""What tests do at a running suite again and again: create tasks, wait for them, look at what is left behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import psutil
from lathe.converter.v1 import conversion_service_pb2 as converter
from lathe.evaluator.v1 import evaluation_service_pb2 as evaluator
from lathe.optimizer.v1 import optimization_service_pb2 as optimizer
from lathe.quantizer.v1 import quantization_service_pb2 as quantizer
from lathe.registry.v1 import architecture_service_pb2 as architecture
from lathe.registry.v1 import dataset_service_pb2 as dataset
from lathe.registry.v1 import model_service_pb2 as model
from lathe.type.v1 import task_pb2
from lathe.type.v1.digest_pb2 import File
from lathe_client.connection import Connection
from lathe_client.tasks import KINDS, kind_of
from minio import Minio

from services.cli.transfers import upload_files
from services.local.endpoints import read_endpoints
from services.local.roster import WORKERS
from services.local.s3 import S3Server
from tests.e2e.tiny import network_source
from tests.eventually import wait_for

if TYPE_CHECKING:
    from tests.e2e.conftest import Suite

BUSY = [task_pb2.TASK_STATE_PENDING, task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_CANCELLING]
PATIENCE_SECONDS = 240.0
Task = TypeVar(
    "Task",
    converter.ConversionTask,
    quantizer.QuantizationTask,
    evaluator.EvaluationTask,
    optimizer.OptimizationTask,
)


@dataclass
class Desk:
    """A suite with the tiny models in it.

    Attributes:
        suite: The suite.
        rpc: Stubs, as the CLI uses them.
        keyed: Version whose checkpoint holds the weights under `state_dict`.
        plain: Version whose checkpoint is the state dict itself.
        weights: The files of both.
    """

    suite: Suite
    rpc: Connection
    weights: tuple[Path, Path]
    keyed: str = ""
    plain: str = ""
    template: str = "templates/tiny"

    def pid(self, part: str) -> int:
        """Return the process id of a part, which a restart changes."""
        endpoints = read_endpoints(self.suite.data_dir)
        assert endpoints
        return next(each.pid for each in endpoints.parts if each.name == part)

    def push(self, name: str, file: Path, class_name: str = "TinyNet", **version: Any) -> str:
        """Add a version of a model, which is created if it is missing, and return its name."""
        from services.cli.models import ensure_model

        ensure_model(self.rpc, name)
        pushed = model.ModelVersion(
            format=version.pop("format", model.MODEL_FORMAT_PTH),
            files=upload_files(self.rpc, [file]),
            architecture=f"architectures/{class_name.lower()}" if class_name else "",
            **version,
        )
        request = model.CreateModelVersionRequest(parent=f"models/{name}", model_version=pushed)
        return self.rpc.models.CreateModelVersion(request).name

    def register(self, class_name: str, before: str, width: int = 4) -> str:
        """Register an architecture that does something before it builds the network; return its name."""
        source = network_source(class_name, before, width)
        created = architecture.Architecture(
            display_name=class_name, class_name=class_name, source=source, file_name=f"{class_name}Net.py"
        )
        request = architecture.CreateArchitectureRequest(architecture=created)
        return self.rpc.architectures.CreateArchitecture(request).name

    def request(self, version: str, **spec: Any) -> converter.CreateConversionTaskRequest:
        """Return a request for a conversion with the tiny template; `skip_cache` and `request_id` as the proto has."""
        options = {name: spec.pop(name) for name in ("skip_cache", "request_id") if name in spec}
        filled = converter.ConversionSpec(model_version=version, template=spec.pop("template", self.template), **spec)
        return converter.CreateConversionTaskRequest(task=converter.ConversionTask(spec=filled), **options)

    def create(self, version: str, **spec: Any) -> converter.ConversionTask:
        """Create a task."""
        return self.rpc.conversions.CreateConversionTask(self.request(version, **spec))

    def quantize(self, version: str, **spec: Any) -> quantizer.QuantizationTask:
        """Create a quantization."""
        filled = quantizer.QuantizationSpec(model_version=version, **spec)
        request = quantizer.CreateQuantizationTaskRequest(task=quantizer.QuantizationTask(spec=filled))
        return self.rpc.quantizations.CreateQuantizationTask(request)

    def evaluate(self, version: str, **spec: Any) -> evaluator.EvaluationTask:
        """Create an evaluation."""
        filled = evaluator.EvaluationSpec(model_version=version, **spec)
        request = evaluator.CreateEvaluationTaskRequest(task=evaluator.EvaluationTask(spec=filled))
        return self.rpc.evaluations.CreateEvaluationTask(request)

    def store(self, content: bytes, folder: Path, name: str = "data.zip") -> File:
        """Store a file that is written to `folder` first."""
        (folder / name).write_bytes(content)
        (file,) = upload_files(self.rpc, [folder / name])
        return file

    def import_dataset(self, name: str, *files: File, **fields: Any) -> dataset.Dataset:
        """Create a dataset and wait until its import goes on no more."""
        asked = dataset.Dataset(display_name=name, files=files, **fields)
        made = self.rpc.datasets.CreateDataset(dataset.CreateDatasetRequest(dataset=asked))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while made.state == dataset.DATASET_STATE_IMPORTING:
            assert time.monotonic() < deadline, made
            time.sleep(0.05)
            made = self.rpc.datasets.GetDataset(dataset.GetDatasetRequest(name=made.name))
        return made

    def get(self, task: Task) -> Task:
        """Return the task, of whatever kind, as it is now."""
        found: Task = kind_of(task.name).call(self.rpc, "Get", name=task.name)
        return found

    def finish(self, task: Task) -> Task:
        """Wait until a task is terminal; one that takes too long fails the test, and is cancelled."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (task := self.get(task)).status.state in BUSY:
            if time.monotonic() > deadline:
                self.cancel(task)
                raise AssertionError(f"{task.name} did not end: {task.status}")
            time.sleep(0.1)
        return task

    def delete_data(self, name: str) -> None:
        """Delete a dataset once nothing holds it: ended tasks let go of what they read in the background."""
        wait_for(lambda: self._deleted(dataset.DeleteDatasetRequest(name=name)))

    def _deleted(self, request: dataset.DeleteDatasetRequest) -> bool:
        try:
            self.rpc.datasets.DeleteDataset(request)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return False
        return True

    def cancel(self, task: Task) -> None:
        """Cancel a task, if it has not ended."""
        with contextlib.suppress(grpc.RpcError):
            kind_of(task.name).call(self.rpc, "Cancel", name=task.name)

    def convert(self, version: str, **spec: Any) -> converter.ConversionTask:
        """Create a task and wait for its end."""
        return self.finish(self.create(version, **spec))

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model."""
        request = model.ListModelVersionsRequest(parent=f"models/{name}", page_size=1000)
        return [each.name for each in self.rpc.models.ListModelVersions(request).model_versions]

    def busy(self) -> list[str]:
        """Return the tasks of all kinds that are not terminal."""
        answers = [
            service.call(self.rpc, "List", filter="state = (PENDING OR RUNNING OR CANCELLING)", page_size=1000)
            for service in KINDS.values()
        ]
        return [task.name for answer in answers for task in answer.tasks]

    def sandboxes(self, worker: str = "worker-conversion") -> list[psutil.Process]:
        """Return the processes right below a worker: the warm child, and the one of a running task."""
        return psutil.Process(self.pid(worker)).children()

    @contextlib.contextmanager
    def paused(self, worker: str = "worker-conversion") -> Iterator[psutil.Process]:
        """Stop a worker for the block, or until it is resumed: it lives, and takes nothing."""
        process = psutil.Process(self.pid(worker))
        process.suspend()
        try:
            yield process
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):  # it was replaced
                process.resume()

    def workdirs(self) -> list[Path]:
        """Return the work directories of all workers: every warm child's, and those of running tasks."""
        return list((self.suite.data_dir / "work").glob("*/*"))

    def clean(self) -> bool:
        """Tell whether nothing runs and no task has left a process or a work directory."""
        few = all(len(self.sandboxes(worker.name)) <= 1 for worker in WORKERS)
        folders = list((self.suite.data_dir / "work").iterdir())  # one of each worker, and of what is done in services
        return few and not self.busy() and max(len(folders), len(self.workdirs())) <= len(WORKERS)

    @cached_property
    def _s3(self) -> Minio:
        server = S3Server(self.suite.data_dir / "s3")
        address = self.suite.parts["s3"]["address"]
        return Minio(address, server.access_key, server.secret_key, secure=False, region=server.region)

    def keys(self, prefix: str = "") -> set[str]:
        """Return the keys of the bucket."""
        found = self._s3.list_objects(S3Server.bucket, prefix=prefix, recursive=True)
        return {str(entry.object_name) for entry in found}

    def read(self, key: str) -> bytes:
        """Return what the bucket holds under a key."""
        with self._s3.get_object(S3Server.bucket, key) as answer:
            return answer.read()
