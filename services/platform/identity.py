"""The caller's identity: read from the metadata of a call, and known to everything that runs for it.

There are two ways. Open (the default on loopback): `x-lathe-user` names the user and nobody checks. Tokens:
`authorization: Bearer …` is required. Services speak for their callers with the service token and `x-lathe-user`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.platform.errors import invalid_argument, permission_denied, unauthenticated
from services.platform.settings import ConfigurationError, Settings

ANONYMOUS = "anonymous"
USER_KEY = "x-lathe-user"
TOKEN_KEY = "authorization"  # noqa: S105 - the name of a header

MOST_PRIORITY_OF_USERS = 5
"""Of tasks; what is above is reserved for those who may administer."""

_USER = re.compile(r"[!-~]([ -~]{0,126}[!-~])?")


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that a call is made for, and the credentials that came with it.

    `is_user` is true if the caller proved to be a user, and so cannot be one of Lathe's own services. `is_admin` is
    true if that user is among the administrators.
    """

    user: str
    authorization: str = ""
    is_user: bool = False
    is_admin: bool = False


_NOBODY = Caller(ANONYMOUS)
_caller: ContextVar[Caller] = ContextVar("caller", default=_NOBODY)


def current_user() -> str:
    """Return the user for whom this code runs; "anonymous" if nobody is named."""
    return _caller.get().user


def current_caller() -> Caller:
    """Return the user for whom this code runs, with the credentials of the call."""
    return _caller.get()


def require_service() -> None:
    """Refuse users a call of Lathe's own services. Without authentication, everybody may make it.

    Raises:
        LatheError: PERMISSION_DENIED.
    """
    if _caller.get().is_user:
        raise permission_denied("This call is reserved for Lathe's own services; your token belongs to a user.")


def may_administer() -> bool:
    """Return whether the caller is an administrator or a service. Without authentication, everybody is."""
    caller = _caller.get()
    return caller.is_admin or not caller.is_user


def become(caller: Caller) -> None:
    """Let everything that follows in this task run for `caller`."""
    _caller.set(caller)


@contextmanager
def acting_as(user: str) -> Iterator[None]:
    """Run a block for a user, as a background job does for the owner of what it works on."""
    token = _caller.set(Caller(user))
    try:
        yield
    finally:
        _caller.reset(token)


class Authenticator(Protocol):
    """Finds out who calls."""

    def authenticate(self, metadata: Mapping[str, str | bytes]) -> Caller:
        """Return the caller that the metadata of a call names; raise LatheError if that is nobody known."""
        ...


class OpenAuthenticator:
    """Trusts the metadata: for one machine, or behind a gateway that authenticates."""

    def authenticate(self, metadata: Mapping[str, str | bytes]) -> Caller:
        """Return the user of `x-lathe-user`, or "anonymous"."""
        return Caller(_named_user(metadata))


class TokenAuthenticator:
    """Knows callers by bearer tokens. Tokens are kept and compared as hashes only."""

    def __init__(self, users: Mapping[str, str], service_token: str, admins: Collection[str] = ()) -> None:
        self._admins = frozenset(admins)
        self._users = {_hash(token): user for token, user in users.items()}
        self._service = _hash(service_token)

    def authenticate(self, metadata: Mapping[str, str | bytes]) -> Caller:
        """Return the user whose token it is; with the service token, the user of `x-lathe-user`."""
        authorization = str(metadata.get(TOKEN_KEY, ""))
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("A token is needed: send the metadata `authorization: Bearer <token>`.")
        hashed = _hash(token.strip())
        if hashed == self._service:
            return Caller(_named_user(metadata), authorization)
        user = self._users.get(hashed)
        if user is None:
            raise unauthenticated("The token is not known to this installation. Ask its operators for a valid one.")
        return Caller(user, authorization, is_user=True, is_admin=user in self._admins)


def authenticator_for(settings: Settings) -> Authenticator:
    """Return the authenticator that the settings ask for.

    Raises:
        ConfigurationError: The service would be open to the network, or the tokens cannot be used.
    """
    if settings.auth_tokens_file is None:
        if settings.auth != "open" and not is_loopback(settings.bind_host):
            raise ConfigurationError(
                f"LATHE_BIND_HOST is {settings.bind_host}, which others can reach, but there is no authentication. Set "
                "LATHE_AUTH_TOKENS_FILE to a JSON file of tokens and users, or LATHE_AUTH=open if the network itself "
                "is protected."
            )
        return OpenAuthenticator()
    users = read_tokens(settings.auth_tokens_file)
    service_token = settings.service_token.get_secret_value()
    if not service_token:
        raise ConfigurationError(
            "LATHE_AUTH_TOKENS_FILE is set, so LATHE_SERVICE_TOKEN is needed too: one secret, the same for every "
            "service, with which they call each other."
        )
    unknown = settings.admin_users - set(users.values())
    if unknown:
        raise ConfigurationError(
            f"LATHE_ADMINS names {', '.join(sorted(unknown))}, to whom no token of LATHE_AUTH_TOKENS_FILE belongs. "
            "Correct the name, or add a token."
        )
    return TokenAuthenticator(users, service_token, settings.admin_users)


def read_tokens(path: Path) -> dict[str, str]:
    """Return token → user of a JSON file.

    Raises:
        ConfigurationError: The file cannot be read, is not such an object, or names no user.
    """
    try:
        users = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"LATHE_AUTH_TOKENS_FILE {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        users = None
    if not isinstance(users, dict) or not users:
        raise ConfigurationError(f'LATHE_AUTH_TOKENS_FILE {path} must be a JSON object: {{"<token>": "<user>", …}}.')
    if not all(token and isinstance(user, str) and _USER.fullmatch(user) for token, user in users.items()):
        raise ConfigurationError(
            f"LATHE_AUTH_TOKENS_FILE {path} has an empty token, or a user that is not 1 to 128 printable ASCII "
            "characters."
        )
    return users


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _named_user(metadata: Mapping[str, str | bytes]) -> str:
    user = metadata.get(USER_KEY, "")
    if not user:
        return ANONYMOUS
    if not isinstance(user, str) or not _USER.fullmatch(user):
        raise invalid_argument(USER_KEY, "the metadata must be a user name of 1 to 128 printable ASCII characters")
    return user


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
