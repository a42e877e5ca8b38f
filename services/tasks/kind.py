"""The two sides of a kind of task: its API side (TaskKind) and its worker side (WorkKind).

The task engine does the rest: states, retries, caching, cancellation, logs, the eleven verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.type.v1.digest_pb2 import Digest, File

from services.platform.errors import invalid_argument

M = TypeVar("M", bound=Message)

MINIMUM_MEMORY = 1 << 30
"""Below this many bytes the frameworks themselves do not load."""

DETAILS = ("spec", "resolved", "result")
"""Fields of a task that lists leave out, as far as the kind has them: they may be long."""


def check_memory(limit_bytes: int) -> None:
    """Refuse a memory limit under which no task could run; 0 stands for the device's."""
    if 0 < limit_bytes < MINIMUM_MEMORY:
        raise invalid_argument("task.spec.memory_limit_bytes", f"at least {MINIMUM_MEMORY} bytes are needed, or 0")


def unpack(packed: AnyMessage, into: Message) -> bool:
    """Read a work or an outcome; False if it is of another type.

    A type counts by its name without its package: work that waits, and outcomes that rows keep, may have been packed by
    a version of Lathe that had the type elsewhere.
    """
    if packed.TypeName().rpartition(".")[2] != into.DESCRIPTOR.name:
        return False
    into.ParseFromString(packed.value)
    return True


def nothing_to_fill(task: Message) -> None:
    """Leave the task message as it is: for kinds without output fields of their own."""


@dataclass(frozen=True)
class PreparedTask:
    """A checked and resolved specification.

    Attributes:
        work: The kind's work message. It holds no name of a user or a task: equal work is equal bytes.
        device: Device of the catalog that the work is for.
        project: The task's: the one that was asked for, or else that of the model under which its result is kept, or
            that it reads.
        display_name: Name for the task if its creator gave none.
        timeout_seconds: Longest time that one attempt may take.
        memory_limit_bytes: Most memory that the child may take.
        fill: Sets the output fields of the task message that only this kind has, such as `resolved`, and takes
            out of its `spec` what the work does not use.
        bare: The work without hints: findings of earlier tasks, which may shorten the work and do not change what
            it is. Works with equal bare work are equal, and if the cache is skipped, the bare work is done; `work`
            itself if None.
        owned: Whether the outcome may depend on what earlier tasks of the owner left, so that tasks of others do not
            share it.
        standing: Names of earlier results that are known to exist, so that `share` need not ask for them.
    """

    work: Message
    device: str
    project: str
    display_name: str
    timeout_seconds: int = 3600
    memory_limit_bytes: int = 8 << 30
    fill: Callable[[Message], None] = field(default=nothing_to_fill)
    bare: Message | None = None
    owned: bool = False
    standing: Collection[str] = ()


def with_reports(result: M, files: Iterable[File], fields: Mapping[str, str]) -> M:
    """Return a copy of a result with the digests of the reports that were stored.

    Args:
        result: What the worker found.
        files: What it stored.
        fields: Path of each report → field of the result.
    """
    made = type(result)()
    made.CopyFrom(result)
    stored = {file.path: file.digest for file in files}
    for path, name in fields.items():
        getattr(made, name).CopyFrom(stored[path])
    return made


class TaskKind(Protocol):
    """The API side of a kind of task; one per task service.

    `task_type` has the fields name, uid, display_name, labels, owner, create_time, update_time, etag, spec, device,
    status, attempts, origin and result, with the types that lathe.converter.v1.ConversionTask gives them.
    """

    @property
    def name(self) -> str:
        """Kind in subjects and logs: `conversion`."""

    @property
    def service(self) -> str:
        """Full name of the gRPC service: `lathe.converter.v1.ConversionService`."""

    @property
    def collection(self) -> str:
        """First part of resource names: `conversionTasks`."""

    @property
    def task_type(self) -> type[Message]:
        """The task resource."""

    @property
    def outcome_type(self) -> type[Message]:
        """What a worker of this kind makes of its work."""

    def uses(self, spec: Message) -> Sequence[str]:
        """Return the names of the resources that a specification names, by which tasks are found; each once."""

    def check(self, spec: Message) -> None:
        """Refuse what is wrong whichever version a specification names, without asking anybody; LatheError if so."""

    def figures(self, result: Message) -> Mapping[str, float]:
        """Return the main figures of a result by name, such as `speedup`: what groups of tasks show."""

    async def prepare(self, spec: Message, project: str) -> PreparedTask:
        """Check and resolve a specification for a project; an empty one stands for that of the model that it works on.

        Raises LatheError for what the caller can correct.
        """

    async def hold(self, task_name: str, spec: Message) -> bool:
        """Pin what a task refers to, before the task exists, so that nobody deletes it until the task ends. Idempotent.

        Returns whether anything was pinned: `release` is called only then, and if it fails. What is pinned lasts an
        hour, or until the last `renew` is an hour ago.
        """

    async def renew(self, task_names: Sequence[str]) -> None:
        """Let what `hold` pinned for tasks last longer; at most 1000 of them, several times an hour."""

    async def release(self, task_name: str, spec: Message) -> None:
        """Release what `hold` pinned: the task is terminal, or was never created. Idempotent; may come late."""

    async def complete(self, task: Message, outcome: Message, work: AnyMessage) -> Message:
        """Do what success means outside the task, such as registering a version, and return the task's `result`.

        Called at least once before SUCCEEDED becomes visible, so it is idempotent: use a request_id derived from
        the task's uid. Raises LatheError UNAVAILABLE to be called again later; any other error fails the task.
        `work` is what the service asked of the worker.
        """

    def unverified(self, outcome: Message) -> bool:
        """Whether a worker on the device has to go on from an outcome, because what made it was not the device."""

    async def share(
        self, task: Message, original: Message, outcome: Message, work: AnyMessage, standing: Collection[str]
    ) -> Message | None:
        """Return the `result` of a task that needs no work because `original` did the same with this `outcome`.

        Usually `original.result` itself. If the task wants the outcome elsewhere (another output model), or if
        `original` has no result because it could not be recorded, do what `complete` does. None if what `original` made
        is gone: the work is then done again. `standing` is that of `PreparedTask`, or empty.
        """


class WorkKind(Protocol):
    """The worker side of a kind of task."""

    @property
    def name(self) -> str:
        """Kind in subjects and logs; the same as the TaskKind's."""

    @property
    def entry(self) -> str:
        """Function that the child runs: `engines.api.conversion:run`."""

    @property
    def preload(self) -> Sequence[str]:
        """Modules that a warm child has already imported."""

    @property
    def work_type(self) -> type[Message]:
        """The work message."""

    @property
    def outcome_type(self) -> type[Message]:
        """The outcome message."""

    @property
    def runs_forms(self) -> bool:
        """Whether its tasks run forms, so that only a machine that is the device can do them."""

    @property
    def outputs_dir(self) -> str:
        """Folder in the work directory whose files are the outputs; empty if the kind has none."""

    @property
    def formats(self) -> Sequence[str]:
        """Formats of sources that can be read here, by their names in lathe.registry.v1.ModelFormat."""

    def source_format(self, work: Message) -> str:
        """Return the format of the source that a work reads; empty if it reads none."""

    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return path in the work directory and content of each file to fetch."""

    def file_lists(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return folder in the work directory and content of each stored FileList to fetch and expand.

        For inputs of many small files, such as the images of a dataset, which a message would be too long to name.
        """

    def request(self, work: Message) -> dict[str, Any]:
        """Return the request of `entry`, as JSON values."""

    async def outcome(self, result: dict[str, Any], files: Sequence[File]) -> Message:
        """Return the outcome, from what `entry` returned and the stored outputs, ordered by path.

        Raises ValueError if they do not belong together.
        """

    def built(self, outcome: Message) -> Sequence[File]:
        """Return the files from which a worker on the device goes on, of the outcome of one that is not; maybe none."""

    def environment(self) -> dict[str, Any]:
        """Return versions of engines and toolchains and the device's fingerprint, without importing a framework."""
