"""What the caller of this call may see and change, by project: one rule, which the stores apply.

Reading a resource takes the role VIEWER in its project, or that it is shared with a project in which the caller has a
role; otherwise it does not exist for this caller. Changing one takes the role that the method declares in its proto
(`lathe.type.v1.access`). Without authentication, for administrators of the installation, and for what a service does by
itself, everything is allowed.

`readers` of a resource are its project and those that it is shared with; `projects/-` stands for all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import grpc

from services.platform.errors import LatheError, not_found, unavailable
from services.platform.identity import Caller, may_administer

__all__ = [
    "DEFAULT_PROJECT",
    "EVERYBODY",
    "EVERYTHING",
    "Access",
    "Grants",
    "Permit",
    "Role",
    "count_for",
    "count_no_more",
    "count_once",
    "current_permit",
    "enter",
    "has_role",
    "is_visible",
    "own_roles",
    "projects_with",
    "readable",
    "require_change",
    "require_project",
    "require_role",
    "role_required",
]

DEFAULT_PROJECT = "projects/default"
EVERYBODY = "projects/-"
"""Among the readers of a resource: it is shared with all projects."""


class Role(IntEnum):
    """What a member of a project may do, as `lathe.type.v1.Role`; each may do what those before it may."""

    NONE = 0
    VIEWER = 1
    EDITOR = 2
    RELEASER = 3
    ADMIN = 4


@dataclass(frozen=True)
class Access:
    """The grants of a caller: a role by project, or everything."""

    roles: Mapping[str, Role] = field(default_factory=dict)
    everything: bool = False

    @cached_property
    def readable(self) -> list[str]:
        """The readers of what this caller may see."""
        return [*self.roles, EVERYBODY]

    def role_in(self, project: str) -> Role:
        """Return the caller's role in a project."""
        return Role.ADMIN if self.everything else self.roles.get(project, Role.NONE)

    def through(self, readers: Iterable[str]) -> str:
        """Return the reader through which this caller may see something; empty if everybody may."""
        return next((each for each in readers if self.everything or each in self.roles), "").removesuffix(EVERYBODY)


EVERYTHING = Access(everything=True)
NOTHING = Access()
Grants = Callable[[Caller], Awaitable[Access]]
"""Returns what a caller may do."""


class Permit:
    """What one call may do. All that runs for the call shares it: a long one renews its grants."""

    __slots__ = ("access", "needed")

    def __init__(self, access: Access | None, needed: Role) -> None:
        """Give the rights of `access`, None while they cannot be found out; changes take the role `needed`."""
        self.access = access
        self.needed = needed


_FORBIDDEN = Permit(NOTHING, Role.ADMIN)
_permit: ContextVar[Permit] = ContextVar("permit", default=_FORBIDDEN)


def current_permit() -> Permit:
    """Return the permit of this call."""
    return _permit.get()


def enter(permit: Permit) -> None:
    """Let everything that follows in this task run with a permit."""
    _permit.set(permit)


_count: ContextVar[Callable[[str], None] | None] = ContextVar("count", default=None)


def count_once(take: Callable[[str], None]) -> None:
    """Have `take` count this call for the first project in which it reads a resource by name, or changes something.

    Of what is shared, that is the project of the caller's through which it is seen. A list counts if its filter names a
    project. `take` raises the error for a project with too many calls.
    """
    waiting = [take]

    def count(project: str) -> None:
        if project and waiting:
            waiting.pop()(project)

    _count.set(count)


def count_for(project: str) -> None:
    """Count this call for a project, unless it is counted already, or the caller has no role there."""
    if (count := _count.get()) is not None and has_role(project, Role.VIEWER):
        count(project)


def count_no_more() -> None:
    """Count this call for no project any more: a stream that was begun is not refused for what it tells later."""
    _count.set(None)


def readable() -> list[str] | None:
    """Return the readers of what the caller may see, for a condition of SQL; None if that is everything.

    Raises:
        LatheError: UNAVAILABLE if the caller's roles are not known at the moment. All functions here raise it.
    """
    access = _access()
    return None if access.everything else access.readable


def own_roles() -> Mapping[str, Role] | None:
    """Return the caller's role by project; None if the caller may do everything."""
    access = _access()
    return None if access.everything else access.roles


def is_visible(readers: Collection[str]) -> bool:
    """Return whether the caller may see what has these readers."""
    access = _access()
    visible = access.everything or EVERYBODY in readers or any(each in access.roles for each in readers)
    if visible and (count := _count.get()) is not None:
        count(access.through(readers))
    return visible


def projects_with(role: Role) -> list[str] | None:
    """Return the projects in which the caller has a role, or a higher one; None if that is everything."""
    access = _access()
    return None if access.everything else sorted(name for name, has in access.roles.items() if has >= role)


def has_role(project: str, role: Role) -> bool:
    """Return whether the caller has a role, or a higher one, in a project."""
    return _access().role_in(project) >= role


def require_change(noun: str, name: str, project: str, readers: Collection[str]) -> None:
    """Refuse a change of a resource unless the caller has the role that the method needs.

    Raises:
        LatheError: NOT_FOUND, as if there were none, if the caller may not even see it; PERMISSION_DENIED, reason
            ROLE_REQUIRED.
    """
    if not is_visible(readers):
        raise not_found(noun, name)
    require_role(project, _permit.get().needed)


def require_project(project: str, role: Role | None = None) -> None:
    """Refuse work in a project unless the caller has a role in it, by default that which the method needs.

    Raises:
        LatheError: NOT_FOUND, as if there were no such project, for who has no role in it; PERMISSION_DENIED, reason
            ROLE_REQUIRED.
    """
    if not has_role(project, Role.VIEWER):
        raise not_found("project", project)
    require_role(project, _permit.get().needed if role is None else role)


def require_role(project: str, role: Role) -> None:
    """Refuse a caller without a role in a project: LatheError PERMISSION_DENIED, reason ROLE_REQUIRED."""
    access = _access()
    if access.role_in(project) < role:
        raise role_required(project, role, access.role_in(project))
    if (count := _count.get()) is not None:
        count(project)


def role_required(project: str, needed: Role, has: Role) -> LatheError:
    """Return the error for a caller who may see something, but not change it."""
    where = project or "the installation"
    own = f"yours is {has.name}" if has else "you do not have it"
    return LatheError(
        grpc.StatusCode.PERMISSION_DENIED,
        "ROLE_REQUIRED",
        f"This takes the role {needed.name} in {where}; {own}. Ask an administrator of "
        f"the {'project' if project else 'installation'} for it.",
        metadata={"role": needed.name, "project": project},
    )


def _access() -> Access:
    if may_administer():
        return EVERYTHING
    access = _permit.get().access
    if access is None:
        raise unavailable("registry", "Your roles cannot be found out at the moment. Try again shortly.")
    return access
