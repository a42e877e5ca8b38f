"""How much projects may use: known for some seconds, so that no call has to ask.

A quota keeps one project from taking everything; it keeps no secret. If the registry does not answer, what was known
last goes on, and nothing is limited before anything is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import grpc
import structlog

from services.platform.errors import LatheError, from_rpc_error, resource_exhausted
from services.platform.kept import Kept

__all__ = ["NO_LIMITS", "CachedQuotas", "FetchQuotas", "Limits", "Table", "exceeded"]

KEPT_SECONDS = 5.0
RETRY_SECONDS = 10.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a project may use; 0 is no limit.

    Attributes:
        waiting_tasks: Tasks of one kind that are PENDING.
        running_tasks: Tasks of one kind that workers have, or that are on the way to them.
        open_uploads: Uploads that are OPEN.
        stored_bytes: Bytes that the project stores, and those of its open uploads.
        calls_per_second: Calls of users about the project that one process takes in a second.
    """

    waiting_tasks: int = 0
    running_tasks: int = 0
    open_uploads: int = 0
    stored_bytes: int = 0
    calls_per_second: int = 0


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Table:
    """The limits of all projects.

    Attributes:
        projects: Of those that state some.
        others: Of the others.
    """

    projects: Mapping[str, Limits] = field(default_factory=dict)
    others: Limits = NO_LIMITS

    def of(self, project: str) -> Limits:
        """Return the limits of a project."""
        return self.projects.get(project, self.others)

    @property
    def any_running(self) -> bool:
        """Whether the running tasks of any project are limited."""
        return bool(self.others.running_tasks) or any(each.running_tasks for each in self.projects.values())

    @cached_property
    def any_calls(self) -> bool:
        """Whether the calls about any project are limited."""
        return bool(self.others.calls_per_second) or any(each.calls_per_second for each in self.projects.values())


FetchQuotas = Callable[[], Awaitable[Table]]


async def _none() -> Table:
    return Table()


class CachedQuotas:
    """Asks once in some seconds; by default, nothing is limited."""

    def __init__(self, fetch: FetchQuotas = _none) -> None:
        self._fetch = fetch
        self._table = Table()
        self._kept = Kept(self._ask, lambda: KEPT_SECONDS)

    async def of(self, project: str) -> Limits:
        """Return the limits of a project."""
        return (await self.table()).of(project)

    async def table(self) -> Table:
        """Return the limits of all projects."""
        return await self._kept.get(None)

    def latest(self) -> Table:
        """Return the limits of all projects as they were known last, without waiting for the registry."""
        return self._kept.latest(None) or self._table

    async def _ask(self, _: None) -> Table:
        try:
            self._table = await self._fetch()
        except grpc.aio.AioRpcError as error:
            log.info("quotas.unread", error=from_rpc_error(error).message)
        except Exception as error:  # in the registry, whatever its database says
            log.info("quotas.unread", error=str(error) or type(error).__name__)
        return self._table


def exceeded(project: str, quota: str, what: str, limit: int, used: int, *, more: str = "") -> LatheError:
    """Return the error for a project that uses all that it may.

    Args:
        project: The project.
        quota: The field of `lathe.registry.v1.Quotas`.
        what: What is counted, in words: `conversion tasks that wait`.
        limit: How many there may be.
        used: How many there are.
        more: What the call would add, in words.
    """
    error = resource_exhausted(
        "QUOTA_EXCEEDED",
        f"The quota {quota} of {project} is {limit} {what}, and there are {used}{more}. Wait until some have ended, "
        "cancel or delete what is not needed, or ask an administrator of the installation for more.",
        retry_after=RETRY_SECONDS,
    )
    error.metadata.update(project=project, quota=quota, limit=str(limit), used=str(used))
    return error
