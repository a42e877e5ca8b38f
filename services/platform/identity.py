"""The caller's identity: known to everything that runs for a call. `authentication` finds out who it is.

A service that calls a sibling for a user sends the user and the user's groups along, and the sibling holds them to that
user's rights. What a service does by itself (`acting_as`) is held to nobody's: the user is named as the owner alone.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from services.platform.errors import invalid_argument, permission_denied

ANONYMOUS = "anonymous"
USER_KEY = "x-lathe-user"
GROUPS_KEY = "x-lathe-groups-bin"
ACTING_KEY = "x-lathe-acting"
ACTING_BY_ITSELF = "service"
TOKEN_KEY = "authorization"  # noqa: S105 - the name of a header

MOST_PRIORITY_OF_USERS = 5
"""Of tasks; what is above is reserved for those who may administer."""

_USER = re.compile(r"[!-~]([ -~]{0,126}[!-~])?")
_MOST_GROUPS = 500


class Proof(Enum):
    """What a caller proved to be."""

    NOTHING = auto()
    """Nothing: nobody asks, in an installation without authentication. Everybody may do everything."""
    USER = auto()
    """A user, by credentials of their own."""
    DELEGATE = auto()
    """One of Lathe's own services, which calls for a user: that user's rights count."""
    SERVICE = auto()
    """One of Lathe's own services, which calls for itself; the user is named as the owner of what it makes."""


class Credential(Enum):
    """What authenticated a caller."""

    NOTHING = auto()
    TOKEN = auto()
    """A token of the file, or the services' own."""
    JWT = auto()
    """A signed token of an identity provider."""
    CERTIFICATE = auto()
    """The certificate of a service."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that a call is made for, and what is known of them.

    Attributes:
        user: The name; "anonymous" if nobody is named.
        proof: What the caller proved to be.
        groups: Groups of the user, by an identity provider or the file of tokens.
        is_admin: Whether the user is among the administrators of the installation.
        credential: What authenticated the caller.
        expires: When the user's credentials end, if they do.
    """

    user: str
    proof: Proof = Proof.NOTHING
    groups: frozenset[str] = frozenset()
    is_admin: bool = False
    credential: Credential = Credential.NOTHING
    expires: datetime | None = None

    @property
    def is_user(self) -> bool:
        """Whether a user's rights count: it is one, or a service that calls for one."""
        return self.proof in (Proof.USER, Proof.DELEGATE)


# What runs outside of any call is the service itself.
_ITSELF = Caller(ANONYMOUS, Proof.SERVICE)
_caller: ContextVar[Caller] = ContextVar("caller", default=_ITSELF)


def current_user() -> str:
    """Return the user for whom this code runs; "anonymous" if nobody is named."""
    return _caller.get().user


def current_caller() -> Caller:
    """Return the caller for whom this code runs; outside of any call, the service itself."""
    return _caller.get()


def require_service() -> None:
    """Refuse users a call of Lathe's own services. Without authentication, everybody may make it.

    Raises:
        LatheError: PERMISSION_DENIED.
    """
    if _caller.get().proof is Proof.USER:
        raise permission_denied("This call is reserved for Lathe's own services; your token belongs to a user.")


def may_administer() -> bool:
    """Return whether the caller is an administrator, or a service itself. Without authentication, everybody is."""
    caller = _caller.get()
    return caller.is_admin or not caller.is_user


def become(caller: Caller) -> None:
    """Let everything that follows in this task run for `caller`."""
    _caller.set(caller)


@contextmanager
def acting_as(user: str) -> Iterator[None]:
    """Run a block as the service itself, in the name of a user, as a background job does for the owner of its work.

    The user's rights were checked when the work was asked for; nothing of them is checked again.
    """
    token = _caller.set(Caller(user, Proof.SERVICE))
    try:
        yield
    finally:
        _caller.reset(token)


def told_of(caller: Caller) -> Iterator[tuple[str, str | bytes]]:
    """Yield the metadata that tells a sibling for whom a service calls."""
    yield USER_KEY, caller.user
    if caller.groups:
        yield GROUPS_KEY, json.dumps(sorted(caller.groups)).encode()
    if caller.proof is Proof.SERVICE:
        yield ACTING_KEY, ACTING_BY_ITSELF


def named_user(metadata: Mapping[str, str | bytes]) -> str:
    """Return the user whom the metadata names; "anonymous" if nobody.

    Raises:
        LatheError: It is no name of a user.
    """
    user = metadata.get(USER_KEY, "")
    if not user:
        return ANONYMOUS
    if not isinstance(user, str) or not is_name(user):
        raise invalid_argument(USER_KEY, "the metadata must be a user name of 1 to 128 printable ASCII characters")
    return user


def named_groups(metadata: Mapping[str, str | bytes]) -> frozenset[str]:
    """Return the groups that a service tells of its user.

    Raises:
        LatheError: They cannot be read.
    """
    packed = metadata.get(GROUPS_KEY)
    if not packed:
        return frozenset()
    try:
        groups = json.loads(packed)
    except ValueError:
        groups = None
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise invalid_argument(GROUPS_KEY, "the metadata must be a JSON list of names of groups")
    return names_of_groups(groups)


def is_name(text: str) -> bool:
    """Return whether a text can name a user or a group: 1 to 128 printable ASCII characters."""
    return _USER.fullmatch(text) is not None


def names_of_groups(groups: list[str]) -> frozenset[str]:
    """Return those that can name a group, 500 at most: no project can name what else an identity provider sends."""
    return frozenset([group for group in groups if is_name(group)][:_MOST_GROUPS])


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
