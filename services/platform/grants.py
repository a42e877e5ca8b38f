"""What callers may do, kept for some seconds: each call needs it, and it changes rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

from services.platform.access import Access, Role
from services.platform.identity import Caller

__all__ = ["CachedGrants", "FetchRoles"]

KEPT_SECONDS = 5.0
_MOST_KEPT = 10_000

FetchRoles = Callable[[str, frozenset[str]], Awaitable[Mapping[str, int]]]
"""Returns the number of the role by project, of a user in some groups."""
_Key = tuple[str, frozenset[str]]


class CachedGrants:
    """Asks once for all calls of a user within some seconds."""

    def __init__(self, fetch: FetchRoles) -> None:
        """Ask with `fetch`, whose errors the callers get."""
        self._fetch = fetch
        self._known: dict[_Key, tuple[float, Access]] = {}
        self._asked: dict[_Key, asyncio.Task[Access]] = {}

    async def __call__(self, caller: Caller) -> Access:
        """Return what a caller may do; raises what `fetch` raises."""
        key = (caller.user, caller.groups)
        known = self._known.get(key)
        if known is not None and known[0] > monotonic():
            return known[1]
        asked = self._asked.get(key)
        if asked is None:
            # In a task of its own: nobody's answer may end with another one's call.
            asked = self._asked[key] = asyncio.create_task(self._ask(key))
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(asked)

    async def _ask(self, key: _Key) -> Access:
        # Counted from before the question: what has changed since may not be in the answer.
        until = monotonic() + KEPT_SECONDS
        access = Access({project: Role(role) for project, role in (await self._fetch(*key)).items()})
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[key] = (until, access)
        return access
