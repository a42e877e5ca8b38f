"""What people do meanwhile: create tasks of four kinds, import datasets, release packages, watch. All patiently."""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from lathe.registry.v1 import dataset_service_pb2 as dataset
from lathe.registry.v1 import model_service_pb2 as model
from lathe.registry.v1 import release_service_pb2 as release
from lathe.type.v1.digest_pb2 import File
from lathe.type.v1.task_pb2 import TASK_STATE_CANCELLED, TASK_STATE_FAILED, TASK_STATE_SUCCEEDED
from lathe.watch.v1.watch_service_pb2 import WatchTasksRequest
from lathe_client.connection import Connection
from lathe_client.tasks import KINDS, Kind, kind_of

from services.cli.transfers import upload_files
from tests.contract.workplace import CLASSES, DEVICE, graph, package_manifest
from tests.e2e.beasts import npz, scenes

MODEL, CHANNEL = "models/chaos", "models/chaos/channels/main"
TEMPLATE = "templates/onnx-cpu-x86-64-onnxruntime-fp32"
ENDED = frozenset({TASK_STATE_SUCCEEDED, TASK_STATE_FAILED, TASK_STATE_CANCELLED})
CALL_SECONDS = 10.0
CALLERS = 8
PAUSE_SECONDS = 0.2
T = TypeVar("T")
# A call is made again if its server went away, or did not answer in time: a stopped process answers nobody.
PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


@dataclass
class Done:
    """What the services acknowledged.

    Attributes:
        tasks: Names of tasks.
        imports: Names of datasets.
        releases: Names of releases.
        codes: Service and gRPC code → number of calls that ended so.
        refusals: Sentences of what was refused for good.
        watched: Task's uid → its states as the watch told them, by revision.
    """

    tasks: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    watched: defaultdict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))


class Load:
    """Callers of a running installation.

    Args:
        connection: To it.
        folder: For files that are uploaded.
        passing: Codes after which a call is made again; whatever else comes is a refusal.
    """

    def __init__(self, connection: Connection, folder: Path, passing: Collection[grpc.StatusCode] = PASSING) -> None:
        self._connection = connection
        self._folder = folder
        self._passing = passing
        self._lock = threading.Lock()
        self._callers = threading.Semaphore(CALLERS)
        self._stop, self._released, self._quiet = (threading.Event() for _ in range(3))
        self.watching = threading.Event()
        self.done = Done()
        self._source = self._package = self._digits = ""
        self._scenes = File()
        # So that no two tasks are equal, and there are as many of each kind, whichever round they are of.
        self._numbers, self._imports = itertools.count(), itertools.count()

    def prepare(self) -> None:
        """Register what the tasks read: a network of one node, a package of it, tensors, and pictures to import."""
        models = self._connection.models
        models.CreateModel(model.CreateModelRequest(model=model.Model(display_name="Chaos"), model_id="chaos"))
        source = model.ModelVersion(
            format=model.MODEL_FORMAT_ONNX, files=[self._stored("model.onnx", graph("Identity"))]
        )
        self._source = models.CreateModelVersion(
            model.CreateModelVersionRequest(parent=MODEL, model_version=source)
        ).name
        files = [self._stored("manifest.json", package_manifest())]
        files.append(self._stored("model.onnx", graph("Identity"), "main/model.onnx"))
        info = model.PackageInfo(repo="vision", package_name="digits", method="classification", version="1")
        package = model.ModelVersion(format=model.MODEL_FORMAT_PACKAGE, files=files, package=info)
        self._package = models.CreateModelVersion(
            model.CreateModelVersionRequest(parent=MODEL, model_version=package)
        ).name
        request = release.CreateChannelRequest(
            parent=MODEL, channel=release.Channel(display_name="Main"), channel_id="main"
        )
        self._connection.releases.CreateChannel(request)
        self._scenes = self._stored("scenes.zip", scenes())
        self._digits = self._dataset_of_digits()

    def beside(self, connection: Connection) -> Load:
        """Return callers of another release of the same installation: they use what these have prepared."""
        other = Load(connection, self._folder, self._passing)
        other._source, other._package, other._digits = self._source, self._package, self._digits
        other._numbers, other._imports = self._numbers, self._imports
        other._scenes, other.done.watched = self._scenes, self.done.watched
        return other

    def run(self, tasks: int, imports: int, seconds: float, dice: random.Random) -> None:
        """Create so many tasks and datasets, spread over so many seconds, and release some of what is made."""
        begun = time.monotonic()
        waits = [(dice.uniform(0, seconds), next(self._numbers), True) for _ in range(tasks)]
        waits += [(dice.uniform(0, seconds), next(self._imports), False) for _ in range(imports)]
        with ThreadPoolExecutor(CALLERS) as callers:
            pending: list[Future[None]] = []
            for at, number, is_task in sorted(waits):
                time.sleep(max(0.0, begun + at - time.monotonic()))
                pending.append(
                    callers.submit(self._ask, self._create_task if is_task else self._create_dataset, number)
                )
            for each in pending:
                each.result()

    def _ask(self, create: Callable[[int], None], number: int) -> None:
        """Create something, once there are fewer callers than there may be in all rounds together."""
        with self._callers:
            create(number)

    def stop(self) -> None:
        """Let what runs in the background end."""
        self._released.set()
        self._stop.set()

    def stop_releasing(self) -> None:
        """Release nothing more."""
        self._released.set()
        self._quiet.wait()

    def watch(self) -> None:
        """Follow all tasks until `stop`; a broken stream is opened again where it ended."""
        token = ""
        while not self._stop.is_set():
            request = WatchTasksRequest(resume_token=token, send_existing=not token)
            call: Any = None
            try:
                call = self._connection.watches.WatchTasks(request, timeout=CALL_SECONDS)
                for response in call:
                    token = response.resume_token or token
                    self.watching.set()
                    for change in response.changes:
                        self.done.watched[change.uid][change.revision] = change.task.status.state
                    if self._stop.is_set():
                        break
            except grpc.RpcError as error:
                # The deadline is our own.
                self._note("watch", "OK" if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else error.code().name)
                time.sleep(PAUSE_SECONDS)

    def release(self) -> None:
        """Release one package after the other until `stop_releasing`."""
        made = {""}
        while not self._released.is_set():
            fresh = [each for each in self._converted() if each not in made]
            if fresh:
                made.add(fresh[0])
                self._promote(fresh[0])
            self._released.wait(1.0 if fresh else 0.5)
        self._quiet.set()

    def _converted(self) -> list[str]:
        kind = KINDS["conversion"]
        request = kind.request("List", filter="state = SUCCEEDED", page_size=1000, view="VIEW_FULL")
        method = kind.method(self._connection, "List")
        page = self.patiently("converter", lambda: method(request, timeout=CALL_SECONDS))
        return [task.result.model_version for task in page.tasks] if page is not None else []

    def _promote(self, version: str) -> None:
        asked = release.PromoteModelVersionRequest(name=CHANNEL, model_version=version, request_id=str(uuid.uuid4()))
        method = self._connection.releases.PromoteModelVersion
        given = self.patiently("registry", lambda: method(asked, timeout=CALL_SECONDS))
        if given is not None:
            self.done.releases.append(given.name)

    def patiently(self, service: str, call: Callable[[], T]) -> Any:
        """Make a call until the service answers it; None if it refused, or after `stop`."""
        while True:
            try:
                answer = call()
            except grpc.RpcError as error:
                self._note(service, error.code().name)
                if error.code() not in self._passing:
                    self.done.refusals.append(f"{service}: {error.code().name}: {error.details()}")
                    return None
                if self._stop.is_set():
                    return None
                time.sleep(PAUSE_SECONDS)
            else:
                self._note(service, "OK")
                return answer

    def listed(self, kind: Kind, **fields: Any) -> list[Any]:
        """Return all tasks of a kind that match."""
        request = kind.request("List", page_size=1000, view="VIEW_FULL", **fields)
        return self.pages(kind.service, kind.method(self._connection, "List"), request, "tasks")

    def pages(self, service: str, method: Callable[..., Any], request: Any, field_name: str) -> list[Any]:
        """Return what all pages of a list hold."""
        found: list[Any] = []
        while True:
            page = self.patiently(service, lambda: method(request, timeout=CALL_SECONDS))
            found += getattr(page, field_name)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    def quiet(self, patience: float) -> None:
        """Wait until every task and import has ended.

        Raises:
            TimeoutError: Some have not after so many seconds.
        """
        deadline = time.monotonic() + patience
        while left := self._busy():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(left)} tasks and imports have not ended: {left[0]}")
            time.sleep(0.5)

    def _busy(self) -> list[Any]:
        busy: list[Any] = []
        for kind in KINDS.values():
            busy += self.listed(kind, filter="state = (PENDING OR RUNNING OR CANCELLING)")
        return busy + [each for each in self.datasets() if each.state == dataset.DATASET_STATE_IMPORTING]

    def datasets(self) -> list[dataset.Dataset]:
        """Return all datasets but that of the digits."""
        request = dataset.ListDatasetsRequest(page_size=1000)
        found = self.pages("registry", self._connection.datasets.ListDatasets, request, "datasets")
        return [each for each in found if each.name != self._digits]

    def _create_task(self, number: int) -> None:
        kind = list(_SPECS)[number % len(_SPECS)]
        found = KINDS[kind]
        spec = _SPECS[kind](self, number)
        task = found.message(f"{kind.capitalize()}Task")(spec=found.message(f"{kind.capitalize()}Spec")(**spec))
        request = found.request("Create", task=task, request_id=str(uuid.uuid4()))
        method = found.method(self._connection, "Create")
        made = self.patiently(found.service, lambda: method(request, timeout=CALL_SECONDS))
        if made is not None:
            assert kind_of(made.name) is found
            with self._lock:
                self.done.tasks.append(made.name)

    def _create_dataset(self, number: int) -> None:
        asked = dataset.Dataset(display_name=f"Scenes {number}", files=[self._scenes])
        request = dataset.CreateDatasetRequest(dataset=asked, request_id=str(uuid.uuid4()))
        made = self.patiently(
            "registry", lambda: self._connection.datasets.CreateDataset(request, timeout=CALL_SECONDS)
        )
        if made is not None:
            with self._lock:
                self.done.imports.append(made.name)

    def _note(self, service: str, code: str) -> None:
        with self._lock:
            self.done.codes[service, code] += 1

    def _stored(self, name: str, data: bytes, path: str = "") -> File:
        local = self._folder / name
        local.write_bytes(data)
        (file,) = upload_files(self._connection, [local])
        file.path = path or file.path
        return file

    def _dataset_of_digits(self) -> str:
        import numpy as np

        labels = np.arange(12) % len(CLASSES)
        scores = np.eye(len(CLASSES), dtype=np.float32)[labels] * 4
        scores += np.random.default_rng(0).random(scores.shape, np.float32)
        entry = dataset.ClassMappingEntry(task="digit", key="class", classes=CLASSES)
        asked = dataset.Dataset(
            display_name="Digits",
            files=[self._stored("digits.npz", npz({"x": scores, "label": labels}))],
            mapping=dataset.ClassMapping(entries=[entry]),
        )
        made = self._connection.datasets.CreateDataset(dataset.CreateDatasetRequest(dataset=asked))
        while made.state == dataset.DATASET_STATE_IMPORTING:
            time.sleep(0.1)
            made = self._connection.datasets.GetDataset(dataset.GetDatasetRequest(name=made.name))
        assert made.state == dataset.DATASET_STATE_READY, made
        return made.name

    def _conversion(self, number: int) -> dict[str, Any]:
        return {"model_version": self._source, "template": TEMPLATE, "seed": number}

    def _quantization(self, number: int) -> dict[str, Any]:
        return {
            "model_version": self._source,
            "template": TEMPLATE,
            "scheme": "QUANTIZATION_SCHEME_WEIGHT_ONLY",
            "excluded_nodes": [f"node-{number}"],
        }

    def _optimization(self, number: int) -> dict[str, Any]:
        return {"model_version": self._source, "device": DEVICE, "seed": number}

    def _evaluation(self, number: int) -> dict[str, Any]:
        return {"model_version": self._package, "dataset": self._digits, "seed": number}


_SPECS: dict[str, Callable[[Load, int], dict[str, Any]]] = {
    "conversion": Load._conversion,
    "quantization": Load._quantization,
    "optimization": Load._optimization,
    "evaluation": Load._evaluation,
}
