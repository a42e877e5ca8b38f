"""To which project the resources of a kind belong, and who else may read them.

Each row has the columns `project` and `readers`, which `project_columns` makes: the rule of `services.platform.access`
in a form that SQL can ask.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from services.database.arrays import of_any_length
from services.database.pool import Connection
from services.platform.access import (
    DEFAULT_PROJECT,
    EVERYBODY,
    Role,
    readable,
    require_change,
    require_project,
    require_role,
)
from services.platform.errors import not_found

__all__ = ["READABLE", "Belonging", "OfParent", "Scope", "Stated", "kept", "told"]

READABLE = "readers && {}"
"""What holds for the rows that a caller may see; `{}` stands for the readers of `access.readable`."""


@dataclass(frozen=True)
class Belonging:
    """The project of a resource, and its readers: that project, and those that it is shared with."""

    project: str
    readers: list[str]


def _stated(message: Any) -> str:
    return message.project or DEFAULT_PROJECT


@dataclass(frozen=True)
class Stated:
    """Resources that state their project, in the field `project`, and in `shared_with` who else may read them.

    Attributes:
        of: returns the project of one; empty if it is everybody's.
        projects: the table of projects, in which those that one is shared with have to be; elsewhere the service asks.
    """

    of: Callable[[Any], str] = _stated
    projects: str = ""

    def belonging(self, message: Any) -> Belonging:
        """Return where a resource belongs."""
        project = self.of(message)
        if not project:
            return Belonging("", [EVERYBODY])
        return Belonging(project, [project, *getattr(message, "shared_with", ())])

    def require_creation(self, message: Any) -> None:
        """Refuse who may not create a resource.

        Raises:
            LatheError: NOT_FOUND for the project; PERMISSION_DENIED, reason ROLE_REQUIRED.
        """
        stated = self.belonging(message)
        require_project(stated.project)
        if stated.readers != [stated.project]:
            require_role(stated.project, Role.ADMIN)

    async def share(self, connection: Connection, tables: Collection[str], before: Any, after: Any) -> None:
        """Let what belongs to a changed resource, the rows of `tables`, have its new readers.

        Raises:
            LatheError: PERMISSION_DENIED, reason ROLE_REQUIRED, for who may not share it; NOT_FOUND for a project that
                does not exist.
        """
        now, earlier = self.belonging(after), self.belonging(before).readers
        if earlier == now.readers:
            return
        require_role(now.project, Role.ADMIN)
        await self.require_projects(connection, set(now.readers) - set(earlier))
        for table in tables:
            # What comes after "/" is "0".
            inside = "parent = $1 OR (parent > $1 || '/' AND parent < $1 || '0')"
            query = f"UPDATE {table} SET readers = $2 WHERE {inside}"  # noqa: S608 - our own table
            await connection.execute(query, after.name, now.readers)

    async def require_projects(self, connection: Connection, readers: Collection[str]) -> None:
        """Refuse to share with a project that does not exist: LatheError NOT_FOUND."""
        names = sorted(name for name in readers if name != EVERYBODY) if self.projects else []
        if not names:
            return
        query = f"SELECT name FROM {self.projects} WHERE name = ANY ($1)"  # noqa: S608 - our own table
        there = {row["name"] for row in await connection.fetch(query, names)}
        for name in names:
            if name not in there:
                raise not_found("project", name)

    def complete(self, message: Any) -> None:
        """Set the project of one that was stored before there were projects."""
        if getattr(message, "project", None) == "":
            message.project = self.of(message)


@dataclass(frozen=True)
class OfParent:
    """Resources that belong where their parent belongs.

    Attributes:
        table: the table of the parents.
        noun: what error messages call a parent: `model`.
        found: condition that finds the parent of the name `$1`.
        readers: the readers of the parent.
    """

    table: str
    noun: str
    found: str = "name = $1"
    readers: str = "readers"

    async def belonging(self, connection: Connection, parent: str) -> Belonging:
        """Return where the resources of a parent belong, and keep that so until the transaction ends.

        Raises:
            LatheError: NOT_FOUND for a parent that does not exist, or that the caller may not see; PERMISSION_DENIED,
                reason ROLE_REQUIRED, for who may not change it.
        """
        query = f"SELECT project, {self.readers} AS readers FROM {self.table} WHERE {self.found} FOR KEY SHARE"  # noqa: S608
        row = None if "\0" in parent else await connection.fetchrow(query, parent)
        if row is None:
            raise not_found(self.noun, parent)
        require_change(self.noun, parent, row["project"], row["readers"])
        return Belonging(row["project"], row["readers"])


Scope = Stated | OfParent


async def kept(connection: Connection, table: str, names: Collection[str], lock: str = "KEY SHARE") -> set[str]:
    """Keep resources from being deleted until the transaction ends; return those that the caller may see."""
    query = f"SELECT name FROM {table} WHERE name = ANY ({of_any_length('$1::text[]')})"  # noqa: S608 - our own table
    args: list[object] = [[name for name in names if "\0" not in name]]
    if (readers := readable()) is not None:
        query += f" AND {READABLE.format('$2')}"
        args.append(readers)
    return {row["name"] for row in await connection.fetch(f"{query} ORDER BY name FOR {lock}", *args)}


def told(holder: str, readers: Collection[str]) -> str:
    """Return what the caller is told of a task that holds a resource: a shared one may be held by another project."""
    return holder if len(readers) == 1 or readable() is None else "a task"
