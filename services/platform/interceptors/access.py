"""What the protos declare of each method: `option (lathe.type.v1.access)`, and what follows for a call of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import grpc
from google.protobuf import descriptor_pool
from lathe.type.v1.access_pb2 import (
    ACCESS_ADMIN,
    ACCESS_AUTHENTICATED,
    ACCESS_EDITOR,
    ACCESS_OPERATOR,
    ACCESS_RELEASER,
    ACCESS_SERVICE,
    ACCESS_UNSPECIFIED,
    ACCESS_VIEWER,
    Access,
    access,
)

from services.platform.access import Grants, Permit, Role, current_permit, enter
from services.platform.errors import LatheError
from services.platform.identity import current_caller, may_administer

__all__ = ["declared", "permit", "renewed"]

RENEW_SECONDS = 3.0
"""How often a stream asks for its caller's roles; with the time for which answers are kept, less than ten seconds."""
_LONGEST_UNKNOWN = 5.0

# What a method that changes something takes. Those of the services change things for users, whose roles are enough to
# create what they ask for.
_ROLES = {
    ACCESS_AUTHENTICATED: Role.VIEWER,
    ACCESS_VIEWER: Role.VIEWER,
    ACCESS_EDITOR: Role.EDITOR,
    ACCESS_RELEASER: Role.RELEASER,
    ACCESS_ADMIN: Role.ADMIN,
    ACCESS_OPERATOR: Role.ADMIN,
    ACCESS_SERVICE: Role.EDITOR,
}


def declared(method: str) -> Access.ValueType:
    """Return what a method such as `/lathe.registry.v1.ModelService/GetModel` declares; 0 if it is not Lathe's."""
    service, _, name = method.lstrip("/").rpartition("/")
    try:
        found = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
    except KeyError:
        return ACCESS_UNSPECIFIED
    needed: Access.ValueType = found.GetOptions().Extensions[access]
    return needed


async def permit(needed: Access.ValueType, grants: Grants) -> None:
    """Let a call run with what its caller may do.

    Raises:
        LatheError: PERMISSION_DENIED, reason ROLE_REQUIRED, for what only administrators of the installation may do.
    """
    if may_administer():
        return
    if needed == ACCESS_OPERATOR:
        raise LatheError(
            grpc.StatusCode.PERMISSION_DENIED,
            "ROLE_REQUIRED",
            "This is reserved for administrators of the installation, whom its operators name in LATHE_ADMINS. Ask one "
            "of them.",
            metadata={"role": "OPERATOR"},
        )
    enter(Permit(await grants(current_caller()), _ROLES[needed]))


@asynccontextmanager
async def renewed(grants: Grants) -> AsyncIterator[None]:
    """Keep the permit of a call true for as long as a stream goes on.

    A member who is removed sees nothing more after ten seconds, even if the roles cannot be asked for then.
    """
    if may_administer():
        yield
        return
    renewing = asyncio.create_task(_renew(current_permit(), grants))
    try:
        yield
    finally:
        renewing.cancel()


async def _renew(permit: Permit, grants: Grants) -> None:
    caller, known = current_caller(), monotonic()
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            permit.access = await grants(caller)
            known = monotonic()
        except (LatheError, grpc.aio.AioRpcError):
            if monotonic() - known > _LONGEST_UNKNOWN:
                permit.access = None
