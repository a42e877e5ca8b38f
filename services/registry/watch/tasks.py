"""Following tasks of all kinds: those there are by the lists of their services, the rest by the stream of changes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from datetime import UTC
from typing import Any

from google.protobuf.message import Message
from lathe.watch.v1.change_pb2 import CHANGE_TYPE_EXISTING, Change, TaskSummary
from lathe.watch.v1.watch_service_pb2 import WatchTasksRequest, WatchTasksResponse
from lathe_client.tasks import KINDS, Kind

from services.bus.connection import Bus
from services.changes.reading import Place, Reading, changes_after, check_place, newest_place
from services.platform import access
from services.platform.errors import invalid_argument
from services.platform.identity import current_user
from services.platform.messages import MAX_PAGE_BYTES
from services.process.composition import Platform
from services.resources.filters.fields import Tests, checked
from services.resources.filters.matching import matches
from services.resources.paging import MAX_PAGE_SIZE
from services.tasks.state.news import summary_of
from services.tasks.state.reader import LISTING

BEAT_SECONDS = 30.0
# What a list shows is published a moment later; so long it is told from what is new.
OVERLAP_SECONDS = 60.0


class TaskWatch:
    """Serves WatchTasks."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._bus: Bus = platform.bus

    async def follow(self, request: WatchTasksRequest) -> AsyncIterator[WatchTasksResponse]:
        """Yield what matches, without an end.

        Raises:
            LatheError: INVALID_ARGUMENT for an unknown kind, a wrong filter or token; FAILED_PRECONDITION, reason
                WATCH_EXPIRED, for a token that is too old; UNAVAILABLE if NATS or a task service does not answer.
        """
        kinds = _kinds(request)
        tests = checked(request.filter, LISTING.fields) if request.filter.strip() else None
        owner = current_user() if request.mine_only else ""
        seen: dict[str, int] = {}
        if request.resume_token:
            place = Place.of(request.resume_token)
            await check_place(self._bus, place)
        else:
            place = await newest_place(self._bus)  # before the lists are read: what changes meanwhile comes after them
            if request.send_existing:
                async for changes in self._existing(request, kinds):
                    seen.update((change.uid, change.revision) for change in changes)
                    yield WatchTasksResponse(changes=changes)
        existing_sent = request.send_existing and not request.resume_token
        yield WatchTasksResponse(resume_token=place.token, existing_sent=existing_sent)
        forget_at = time.monotonic() + OVERLAP_SECONDS
        async for batch in changes_after(self._bus, place, BEAT_SECONDS):
            if seen and time.monotonic() > forget_at:
                seen.clear()
            fresh = [
                each for each in batch if each.change is None or each.change.revision > seen.get(each.change.uid, 0)
            ]
            for response in _responses(fresh, kinds, tests, owner):
                yield response

    async def _existing(self, request: WatchTasksRequest, kinds: Collection[str]) -> AsyncIterator[list[Change]]:
        for kind in (KINDS[name] for name in kinds):
            listing = kind.request(
                "List",
                filter=request.filter,
                mine_only=request.mine_only,
                page_size=MAX_PAGE_SIZE,
                order_by="create_time",
            )
            while True:
                page = await _list(self._platform, kind, listing)
                if page.tasks:
                    yield [_existing(kind.name, task) for task in page.tasks]
                listing.page_token = page.next_page_token
                if not listing.page_token:
                    break


async def _list(platform: Any, kind: Kind, request: Message) -> Any:
    return await kind.method(platform, "List")(request)


def _kinds(request: WatchTasksRequest) -> Collection[str]:
    unknown = [kind for kind in request.kinds if kind not in KINDS]
    if unknown:
        raise invalid_argument("kinds", f"'{unknown[0]}' is not a kind of task. Kinds: {', '.join(KINDS)}.")
    return list(request.kinds) or list(KINDS)


def _existing(kind: str, task: Any) -> Change:
    change = Change(name=task.name, uid=task.uid, type=CHANGE_TYPE_EXISTING, revision=task.status.revision)
    change.time.CopyFrom(task.update_time)
    change.task.CopyFrom(summary_of(kind, task))
    return change


def _responses(
    batch: list[Reading], kinds: Collection[str], tests: Tests | None, owner: str
) -> list[WatchTasksResponse]:
    """Return the changes of a batch that match, in responses of bounded size; a beat is a response of its own."""
    responses: list[WatchTasksResponse] = []
    size = MAX_PAGE_BYTES
    for change, place in batch:
        if change is None:
            return [WatchTasksResponse(resume_token=place.token)]
        if not change.HasField("task") or not _wanted(change.task, kinds, tests, owner):
            continue
        size += change.ByteSize()
        if size > MAX_PAGE_BYTES:
            size = change.ByteSize()
            responses.append(WatchTasksResponse())
        responses[-1].changes.append(change)
        responses[-1].resume_token = place.token
    return responses


def _wanted(task: TaskSummary, kinds: Collection[str], tests: Tests | None, owner: str) -> bool:
    if task.kind not in kinds or (owner and task.owner != owner):
        return False
    # What was published before there were projects is in the one that everybody has.
    if not access.is_visible([task.project or access.DEFAULT_PROJECT]):
        return False
    return tests is None or matches(tests, _entry(task))


def _entry(task: TaskSummary) -> dict[str, Any]:
    """Return the values of the fields that filters of tasks may ask for."""
    return {
        "name": task.name,
        "display_name": task.display_name,
        "owner": task.owner,
        "labels": dict(task.labels),
        "create_time": task.create_time.ToDatetime(tzinfo=UTC),
        "update_time": task.update_time.ToDatetime(tzinfo=UTC),
        "device": task.device,
        "priority": task.priority,
        "state": task.status.state,
        "uses": list(task.uses),
        "group": list(task.uses),
        "project": task.project or access.DEFAULT_PROJECT,
    }
