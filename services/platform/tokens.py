"""The file of static tokens: the SHA-256 of each, with its user, groups and expiry. No token itself is in it.

    {"tokens": [{"id": "k3f9", "sha256": "…", "user": "ada", "groups": ["vision"],
                 "expire_time": "2027-01-01T00:00:00Z"}]}

A JSON object of tokens and users, as releases before this one had it, is read too.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hmac import compare_digest
from pathlib import Path
from typing import Any

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.platform.identity import is_name
from services.platform.reread import Reread
from services.platform.settings import ConfigurationError

__all__ = ["StaticToken", "TokenFile", "hash_of", "new_token", "packed", "read_tokens"]

_PREFIX = "lathe_"
_log: Any = structlog.get_logger("lathe.tokens")


class StaticToken(BaseModel):
    """A token of the file.

    Attributes:
        id: Names it, for `lathe tokens revoke`.
        sha256: SHA-256 of the token, in hexadecimal.
        user: Whose it is.
        groups: Groups of that user.
        expire_time: When it ends; None is never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    user: str
    groups: tuple[str, ...] = ()
    expire_time: AwareDatetime | None = None

    @property
    def ended(self) -> bool:
        """Whether it has expired."""
        return self.expire_time is not None and self.expire_time <= datetime.now(UTC)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    tokens: tuple[StaticToken, ...]


class TokenFile:
    """The tokens of a file, read again when it changes. A file that cannot be used leaves those that were known.

    Args:
        path: The file.
        service_token: The services' own token, which no user may have; empty if there is none.

    Raises:
        ConfigurationError: The file cannot be used now, at the start.
    """

    def __init__(self, path: Path, service_token: str = "") -> None:
        self._path = path
        self._service = hash_of(service_token) if service_token else ""
        self._tokens = Reread(
            [path],
            self._read,
            _log,
            renewed="tokens read again",
            refused="the tokens have changed and cannot be used; those from before stay valid",
        )

    @property
    def users(self) -> frozenset[str]:
        """The users who have a token."""
        return frozenset(token.user for token in self._tokens.current().values())

    def find(self, token: str) -> StaticToken | None:
        """Return what the file says of a token, also if it has expired; None if it is not in it."""
        hashed = hash_of(token)
        found = self._tokens.current().get(hashed)
        return found if found is not None and compare_digest(found.sha256, hashed) else None

    def _read(self) -> Mapping[str, StaticToken]:
        tokens, hashed = _parsed(self._path)
        if not hashed:
            _log.warning(
                "the file of tokens has the tokens themselves in it; whoever reads it can call as these users",
                file=str(self._path),
                to_do=f"lathe tokens convert --file {self._path}",
            )
        found = {token.sha256: token for token in tokens}
        if self._service in found:
            raise ConfigurationError(
                f"LATHE_AUTH_TOKENS_FILE {self._path} gives {found[self._service].user} the token of "
                "LATHE_SERVICE_TOKEN, which would make a service of this user. Take it out, and give the services a "
                "new one if anybody has seen it."
            )
        return found


def read_tokens(path: Path) -> Sequence[StaticToken]:
    """Return the tokens of a file.

    Raises:
        ConfigurationError: The file cannot be read, has no tokens, or one of them is wrong; the text tells which.
    """
    return _parsed(path)[0]


def _parsed(path: Path) -> tuple[Sequence[StaticToken], bool]:
    """Return the tokens of a file, and whether they are hashed in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"LATHE_AUTH_TOKENS_FILE {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        content = None
    if not isinstance(content, dict) or not content:
        raise ConfigurationError(
            f"LATHE_AUTH_TOKENS_FILE {path} is no file of tokens. Make one with `lathe tokens add --file {path} USER`."
        )
    if not isinstance(content.get("tokens"), list):
        return _plain(path, content), False
    try:
        tokens = _File.model_validate_json(json.dumps(content)).tokens
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"LATHE_AUTH_TOKENS_FILE {path}: {place}: {first['msg']}.") from None
    for token in tokens:
        if not all(map(is_name, (token.user, *token.groups))):
            raise ConfigurationError(
                f"LATHE_AUTH_TOKENS_FILE {path}: the user and the groups of {token.id} must be 1 to 128 printable "
                "ASCII characters."
            )
    return tokens, True


def _plain(path: Path, users: Mapping[str, object]) -> Sequence[StaticToken]:
    if not all(token and isinstance(user, str) and is_name(user) for token, user in users.items()):
        raise ConfigurationError(
            f"LATHE_AUTH_TOKENS_FILE {path} has an empty token, or a user that is not 1 to 128 printable ASCII "
            "characters."
        )
    hashed = ((hash_of(token), str(user)) for token, user in users.items())
    return [StaticToken(id=sha256[:8], sha256=sha256, user=user) for sha256, user in hashed]


def packed(tokens: Sequence[StaticToken]) -> str:
    """Return the text of a file with these tokens."""
    return _File(tokens=tuple(tokens)).model_dump_json(indent=2, exclude_defaults=True) + "\n"


def new_token() -> str:
    """Return a new token, of 256 random bits; its beginning tells people and scanners what it is."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return the SHA-256 of a token, in hexadecimal. Tokens are random: a slow hash would guard nothing more."""
    return hashlib.sha256(token.encode()).hexdigest()
