"""Kill processes of a running stack at random while tasks run and datasets are imported.

By hand: `python -m tests.e2e.chaos.run --tasks 500`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.registry.v1 import dataset_service_pb2 as dataset
from lathe.registry.v1 import model_service_pb2 as registry
from lathe.type.v1 import task_pb2
from lathe.type.v1.digest_pb2 import File
from lathe_client.connection import Connection

from services.cli.transfers import upload_files
from services.local.roster import SERVICES, ServiceEntry, WorkerEntry
from services.local.stack import Stack
from services.platform.words import word
from tests.e2e.beasts import COUNT, scenes

ROOT = Path(__file__).parents[3]
PARTS = (
    next(entry for entry in SERVICES if entry.name == "registry"),
    ServiceEntry("converter", "tests.e2e.chaos.service", 50053),
)
WORKERS = tuple(WorkerEntry(f"worker-{number}", "tests.e2e.chaos.worker", "conversion") for number in (1, 2))
CLOCKS = {"LATHE_ACK_WAIT_SECONDS": "2", "LATHE_HEARTBEAT_SECONDS": "0.5", "LATHE_MAX_ATTEMPTS": "10"}
CALLERS = 4
CALL_SECONDS = 5.0
T = TypeVar("T")
# A call that is broken off in the middle ends as CANCELLED.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True)
class Aftermath:
    """What is there when everything is quiet again.

    Attributes:
        accepted: Names of the tasks that the service acknowledged.
        states: Name → state of every task that is there.
        effects: Uid of a task → number of models that it registered.
        kills: Part → number of times that it was killed.
        attempts: Attempts of all tasks together.
        imports: Names of the datasets that the registry acknowledged.
        datasets: Name → state and number of items of every dataset that is there.
        complaints: What the failed imports say.
    """

    accepted: list[str]
    states: dict[str, str]
    effects: Counter[str]
    kills: Counter[str]
    attempts: int
    imports: list[str]
    datasets: dict[str, tuple[str, int]]
    complaints: list[str]


def wreak(
    folder: Path, tasks: int, kills: int, *, imports: int = 0, seed: int = 0, patience: float = 120.0
) -> Aftermath:
    """Create tasks and datasets in a stack of its own, kill so many processes meanwhile, and wait until all is quiet.

    Raises:
        TimeoutError: Some tasks or imports have not ended `patience` seconds after the last kill.
    """
    with running_stack(folder) as stack:
        addresses = {name: stack.address(name) for name in ("registry", "converter")}
        with (
            Connection(addresses, user="chaos") as connection,
            ThreadPoolExecutor(CALLERS) as callers,
            ThreadPoolExecutor(1) as importer,
        ):
            file = upload(connection, folder)
            importing = [importer.submit(create_dataset, connection, number, file) for number in range(imports)]
            pending = [callers.submit(create, connection, number) for number in range(tasks)]
            killed = kill_at_random(stack, kills, random.Random(seed))
            accepted = [each.result() for each in pending]
            imported = [each.result() for each in importing]
            found = quiet(connection, patience)
            datasets = settled(connection, patience)
            return Aftermath(
                accepted,
                {task.name: word(task_pb2.TaskState, task.status.state) for task in found},
                Counter(model.labels["task"] for model in models(connection)),
                killed,
                sum(len(task.attempts) for task in found),
                imported,
                {each.name: (word(dataset.DatasetState, each.state), each.item_count) for each in datasets},
                [each.failure.message for each in datasets if each.HasField("failure")],
            )


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """Run a durable stack and its supervision in a thread; leave no process behind."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LATHE_")}
    environment |= CLOCKS | {"PYTHONPATH": str(ROOT)}
    stack = Stack(folder, services=PARTS, workers=WORKERS, environment=environment, say=lambda _: None)
    stack.start()
    watching = threading.Thread(target=stack.run)
    watching.start()
    try:
        yield stack
    finally:
        stack.request_stop()
        watching.join()
        stack.stop()


def create(connection: Connection, number: int) -> str:
    """Create a task, again and again with the same request id while the service is away; return its name."""
    spec = pb.ConversionSpec(model_version="models/m/versions/1", template="templates/ok", seed=number)
    request = pb.CreateConversionTaskRequest(task=pb.ConversionTask(spec=spec), request_id=str(uuid.uuid4()))
    # So that tasks are created all the while.
    time.sleep(random.uniform(0.1, 0.7))
    return patiently(lambda: connection.conversions.CreateConversionTask(request, timeout=CALL_SECONDS).name)


def upload(connection: Connection, folder: Path) -> File:
    """Store an archive of annotated pictures."""
    path = folder / "scenes.zip"
    path.write_bytes(scenes())
    (file,) = upload_files(connection, [path])
    return file


def create_dataset(connection: Connection, number: int, file: File) -> str:
    """Create a dataset as `create` creates a task; return its name."""
    asked = dataset.Dataset(display_name=f"Scenes {number}", files=[file])
    request = dataset.CreateDatasetRequest(dataset=asked, request_id=str(uuid.uuid4()))
    time.sleep(random.uniform(0.2, 1.5))
    return patiently(lambda: connection.datasets.CreateDataset(request, timeout=CALL_SECONDS).name)


def patiently(call: Callable[[], T]) -> T:
    """Make a call until the service answers it."""
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in PASSING:
                raise
            time.sleep(0.2)


def kill_at_random(stack: Stack, kills: int, dice: random.Random) -> Counter[str]:
    """Kill parts of the stack, one after the other; return which."""
    killed: Counter[str] = Counter()
    while killed.total() < kills:
        time.sleep(dice.uniform(0.4, 1.2))
        part = dice.choice(stack.endpoints())
        with contextlib.suppress(ProcessLookupError):
            os.kill(part.pid, signal.SIGKILL)
            killed[part.name] += 1
    return killed


def quiet(connection: Connection, patience: float) -> list[pb.ConversionTask]:
    """Wait until every task is terminal, and return all of them."""
    busy = pb.ListConversionTasksRequest(filter="state = (PENDING OR RUNNING OR CANCELLING)", page_size=1000)
    deadline = time.monotonic() + patience
    while left := patiently(lambda: connection.conversions.ListConversionTasks(busy, timeout=CALL_SECONDS).tasks):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(left)} tasks have not ended: {left[0]}")
        time.sleep(0.2)
    found: list[pb.ConversionTask] = []
    request = pb.ListConversionTasksRequest(page_size=1000)
    while True:
        page = patiently(lambda: connection.conversions.ListConversionTasks(request, timeout=CALL_SECONDS))
        found += page.tasks
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def settled(connection: Connection, patience: float) -> list[dataset.Dataset]:
    """Wait until no import goes on, and return every dataset."""
    deadline = time.monotonic() + patience
    request = dataset.ListDatasetsRequest(page_size=1000)
    while True:
        found = patiently(lambda: connection.datasets.ListDatasets(request, timeout=CALL_SECONDS).datasets)
        left = [each for each in found if each.state == dataset.DATASET_STATE_IMPORTING]
        if not left:
            return list(found)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(left)} imports have not ended: {left[0]}")
        time.sleep(0.2)


def models(connection: Connection) -> list[registry.Model]:
    """Return every model of the registry."""
    found: list[registry.Model] = []
    request = registry.ListModelsRequest(page_size=1000)
    while True:
        page = patiently(lambda: connection.models.ListModels(request, timeout=CALL_SECONDS))
        found += page.models
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def main() -> None:
    """Run once and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--imports", type=int, default=50)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lathe-chaos-") as folder:
        after = wreak(
            Path(folder), options.tasks, options.kills, imports=options.imports, seed=options.seed, patience=600.0
        )
    killed = ", ".join(f"{name} {count}" for name, count in sorted(after.kills.items()))
    lost = set(after.accepted) - set(after.states)
    twice = [uid for uid, count in after.effects.items() if count > 1]
    imports = dict(Counter(state for state, _ in after.datasets.values()))
    sys.stdout.write(
        f"{len(after.accepted)} tasks accepted, {after.kills.total()} kills ({killed})\n"
        f"{after.attempts} attempts, states {dict(Counter(after.states.values()))}\n"
        f"lost {len(lost)}, with an effect {len(after.effects)}, with more than one {len(twice)}\n"
        f"{len(after.imports)} imports accepted, states {imports} {after.complaints}\n"
    )
    whole = set(after.imports) == set(after.datasets) and set(after.datasets.values()) <= {("READY", COUNT)}
    sys.exit(bool(lost or twice or not whole or set(after.states.values()) != {"SUCCEEDED"}))


if __name__ == "__main__":
    main()
