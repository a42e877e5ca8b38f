"""The action cache: outcomes of work that was done, and tasks that need no work because of one.

The outcomes stand in the rows of the tasks that made them, under their action key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.type.v1 import task_pb2

from services.platform.errors import LatheError, failed_precondition
from services.tasks.api.completion import refusal
from services.tasks.api.ledger import Ledger
from services.tasks.api.settler import Settler
from services.tasks.api.workers import WorkersView
from services.tasks.state.rows import NewTask, TaskRow


def work_key(kind: str, device: str, work: Message, owner: str = "") -> bytes:
    """Return what is equal for equal work: kind, device and the work message in its deterministic form.

    `owner` is whose tasks alone share the work; empty if everybody's do.
    """
    packed = AnyMessage()
    packed.Pack(work, deterministic=True)
    digest = hashlib.sha256()
    parts = [kind.encode(), device.encode(), packed.type_url.encode(), packed.value]
    for part in [*parts, owner.encode()] if owner else parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def action_key(work_key: bytes, environment: str) -> bytes:
    """Return the key of the action cache: the same work, done by the same programs on the same kind of machine."""
    return hashlib.sha256(work_key + environment.encode()).digest()


class ActionCache:
    """Finds outcomes, and creates tasks from them."""

    def __init__(self, ledger: Ledger, settler: Settler, workers: WorkersView) -> None:
        self._codec = ledger.codec
        self._store = ledger.store
        self._settler = settler
        self._workers = workers

    def keys(self, device: str, work_key: bytes, retried: TaskRow | None) -> list[bytes]:
        """Return under which keys the outcome of equal work may be found.

        Args:
            device: Device that the work is for: the environments of its live workers count.
            work_key: Of the work.
            retried: The task that is tried again, if any: what its work made serves, whichever workers live.
        """
        keys = [action_key(work_key, environment) for environment in self._workers.environments(device)]
        if retried is not None and retried.action_key is not None and retried.work_key == work_key:
            keys.append(retried.action_key)
        return keys

    async def create(self, draft: NewTask, standing: Collection[str] = ()) -> TaskRow | None:
        """Create the task with the outcome of an equal one that is done; None if there is none.

        `standing` are results that are known to exist.
        """
        while draft.action_keys and (done := await self._store.find_result(draft.action_keys)) is not None:
            if (row := await self._share(draft, done, standing)) is not None:
                return row
            await self._store.forget_result(done.uid)
        return None

    async def _share(self, draft: NewTask, done: TaskRow, standing: Collection[str]) -> TaskRow | None:
        """Create the task as SUCCEEDED with the outcome of an ended one; None if what that made is gone."""
        original, task = self._codec.message(done), self._codec.message(draft.row)
        try:
            result = await self._settler.shared_result(done, original, task, standing)
        except (LatheError, grpc.aio.AioRpcError) as error:
            if (failure := refusal(error)) is None:
                raise
            told, here = f"{failure.message} {failure.suggested_fix}", done.project == draft.row.project
            told += f" The work is that of '{original.name}'." if here else " A task of another project did the work."
            raise failed_precondition("RESULT_NOT_RECORDED", told, original.name if here else "") from error
        if result is None:
            return None
        row = self._codec.succeeded(draft.row, task.origin, result)
        if done.state != task_pb2.TASK_STATE_SUCCEEDED:  # from now on, others share what is registered here
            row = row._replace(action_key=done.action_key, outcome=done.outcome)
        await self._store.create(draft._replace(row=row, action_keys=(), shares=False, msg_id=""))
        self._settler.settle([row])
        return row
