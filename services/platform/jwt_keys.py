"""The public keys of an identity provider: a JWKS at a URL or in a file, fetched again as the provider rotates them."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from services.platform.identity import is_loopback
from services.platform.settings import ConfigurationError

__all__ = ["Key", "KeySet", "Keys", "KeysUnavailableError"]

_FRESH_SECONDS = 300.0
"""After this, keys are fetched again beside the calls, so that one that the provider withdrew is forgotten."""
_PAUSE_SECONDS = 10.0
"""Between two fetches, whatever key ids strangers send."""
_TIMEOUT_SECONDS = 5.0
# Public keys alone: with a symmetric one, whoever verifies can sign.
_ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
_log: Any = structlog.get_logger("lathe.jwt")


class KeysUnavailableError(Exception):
    """The provider's keys were never fetched, and cannot be now."""


@dataclass(frozen=True)
class Key:
    """A public key.

    Attributes:
        public: The key.
        algorithms: What it may verify.
        stated: What the set says of it.
    """

    public: Any = field(compare=False)
    algorithms: Sequence[str]
    stated: Mapping[str, Any]


@dataclass(frozen=True)
class Keys:
    """The keys of a set that can verify signatures.

    Attributes:
        by_id: By key id; "" for one without.
        number: Counts the sets; another number is another set.
    """

    by_id: Mapping[str, Key]
    number: int

    def find(self, key_id: str) -> Key | None:
        """Return a key; a token without a key id gets the only key of the set."""
        if not key_id and len(self.by_id) == 1:
            return next(iter(self.by_id.values()))
        return self.by_id.get(key_id)


class KeySet:
    """The keys of one provider. Nothing here blocks the event loop.

    Args:
        where: URL (https, or http on this machine) or path of a file.
        ca_file: Certificates of authorities to trust beside the system's, for the URL.

    Raises:
        ConfigurationError: The place is none that keys may come from, or the file has no keys.
    """

    def __init__(self, where: str, ca_file: Path | None = None) -> None:
        self._where = where
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._keys: Keys | None = None
        self._tried = self._fetched = float("-inf")
        url = urlsplit(where)
        self._is_url = url.scheme in {"http", "https"}
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            raise ConfigurationError(
                f"LATHE_AUTH_JWKS is {where}: who can change what travels in the clear could sign for any user. "
                "Use https."
            )
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        if self._tls is not None and ca_file is not None:
            self._tls.load_verify_locations(ca_file)
        if not self._is_url:
            try:
                self._take(self._load())
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"LATHE_AUTH_JWKS {where} is no file of keys (JWKS): {error}.") from None

    async def keys(self, key_id: str | None = None) -> Keys:
        """Return the keys; they are fetched first if none of them has the id, unless that was tried just now.

        Raises:
            KeysUnavailableError: There are none.
        """
        keys = self._keys
        if keys is None or (key_id is not None and keys.find(key_id) is None):
            await self._fetch()
        elif time.monotonic() - self._fetched > _FRESH_SECONDS and (
            self._refreshing is None or self._refreshing.done()
        ):
            self._refreshing = asyncio.create_task(self._fetch())
        if self._keys is None:
            raise KeysUnavailableError
        return self._keys

    async def _fetch(self) -> None:
        """Fetch the keys, unless somebody did or tried within the pause; those that are known stay if it fails."""
        asked = time.monotonic()
        async with self._lock:
            if self._tried > asked or time.monotonic() - self._tried < _PAUSE_SECONDS:
                return
            try:
                async with asyncio.timeout(2 * _TIMEOUT_SECONDS):
                    self._take(await asyncio.to_thread(self._load))
            except (OSError, ValueError) as error:
                kept = len(self._keys.by_id) if self._keys else 0
                _log.warning("no keys to verify tokens with", at=self._where, cause=str(error), keys_kept=kept)
            finally:
                self._tried = time.monotonic()

    def _take(self, loaded: Mapping[str, Key]) -> None:
        self._fetched = time.monotonic()
        known = self._keys
        if known is None or known.by_id != loaded:
            self._keys = Keys(loaded, known.number + 1 if known else 1)
            _log.info("keys to verify tokens with", at=self._where, ids=sorted(loaded))

    def _load(self) -> Mapping[str, Key]:
        import jwt

        if not self._is_url:
            return _usable(json.loads(Path(self._where).read_text(encoding="utf-8")))
        try:
            client = jwt.PyJWKClient(self._where, cache_jwk_set=False, timeout=_TIMEOUT_SECONDS, ssl_context=self._tls)
            return _usable(client.fetch_data())
        except jwt.PyJWTError as error:
            raise ValueError(str(error)) from None


def _usable(content: Any) -> Mapping[str, Key]:
    """Return the keys of a JWKS that verify signatures.

    Raises:
        ValueError: There are none.
    """
    import jwt

    found: dict[str, Key] = {}
    for each in content.get("keys", ()) if isinstance(content, dict) else ():
        algorithms = _ALGORITHMS.get(each.get("kty", ""), ()) if isinstance(each, dict) else ()
        if not algorithms or each.get("use", "sig") != "sig":
            continue
        stated = each.get("alg")
        try:
            public = jwt.PyJWK.from_dict(each).key
        except jwt.PyJWTError:
            continue  # of a kind that is newer than the library
        found[str(each.get("kid", ""))] = Key(public, [name for name in algorithms if stated in {None, name}], each)
    if not found:
        raise ValueError("it has no public key for signatures (RSA, EC or OKP)")
    return found
