"""What callers may do, kept for some seconds: each call needs it, and it changes rarely."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from services.platform.access import Access, Role
from services.platform.identity import Caller
from services.platform.kept import Kept

__all__ = ["CachedGrants", "FetchRoles"]

KEPT_SECONDS = 5.0

FetchRoles = Callable[[str, frozenset[str]], Awaitable[Mapping[str, int]]]
"""Returns the number of the role by project, of a user in some groups."""


class CachedGrants:
    """Asks once for all calls of a user within some seconds."""

    def __init__(self, fetch: FetchRoles) -> None:
        """Ask with `fetch`, whose errors the callers get."""
        self._fetch = fetch
        self._kept = Kept(self._ask, lambda: KEPT_SECONDS)

    def __call__(self, caller: Caller) -> Awaitable[Access]:
        """Return what a caller may do; raises what `fetch` raises."""
        return self._kept.get((caller.user, caller.groups))

    async def _ask(self, key: tuple[str, frozenset[str]]) -> Access:
        return Access({project: Role(role) for project, role in (await self._fetch(*key)).items()})
