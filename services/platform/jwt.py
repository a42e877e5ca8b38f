"""Tokens of an identity provider: JWTs that are signed with a key of its set, for this installation.

PyJWT does the cryptography. Here stands what is demanded of a token: an asymmetric algorithm that fits its key, the
issuer, the audience, an expiry, a user.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from services.platform.errors import LatheError, unauthenticated, unavailable
from services.platform.identity import Caller, Credential, Proof, is_name, names_of_groups
from services.platform.jwt_keys import KeySet, KeysUnavailableError
from services.platform.settings import ConfigurationError, Settings

__all__ = ["Issuer"]

CLOCK_SKEW_SECONDS = 60
_MOST_REMEMBERED = 4096


class Issuer:
    """An identity provider whose tokens this installation takes.

    Args:
        settings: LATHE_AUTH_ISSUER, _AUDIENCE, _JWKS, _USER_CLAIM, _GROUPS_CLAIM, and LATHE_ADMINS.

    Raises:
        ConfigurationError: One of them is missing, or the keys cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        if not (settings.auth_issuer and settings.auth_audience and settings.auth_jwks):
            raise ConfigurationError(
                "LATHE_AUTH_ISSUER, LATHE_AUTH_AUDIENCE and LATHE_AUTH_JWKS go together: set all three, or none."
            )
        self._issuer = settings.auth_issuer
        self._audience = settings.auth_audience
        self._user_claim, self._groups_claim = settings.auth_user_claim, settings.auth_groups_claim
        self._admins = settings.admin_users
        self._keys = KeySet(settings.auth_jwks, settings.tls_ca_file)
        self._known: dict[bytes, Caller] = {}
        self._known_by = 0

    async def authenticate(self, token: str) -> Caller:
        """Return the user of a token.

        Raises:
            LatheError: UNAUTHENTICATED, with what is wrong with it; UNAVAILABLE if no keys can be fetched.
        """
        import jwt

        name = hashlib.sha256(token.encode()).digest()
        known = self._known.get(name)
        # What a withdrawn key signed is forgotten with it.
        if known is not None and await self._still_good(known):
            return known
        try:
            caller = await self._verified(token)
        except jwt.PyJWTError as error:
            raise self._refusal(error) from None
        self._remember(name, caller)
        return caller

    async def _still_good(self, known: Caller) -> bool:
        assert known.expires is not None
        return known.expires > datetime.now(UTC) and (await self._keys.keys()).number == self._known_by

    async def _verified(self, token: str) -> Caller:
        import jwt

        header = jwt.get_unverified_header(token)
        key_id = header.get("kid", "")
        try:
            keys = await self._keys.keys(key_id)
        except KeysUnavailableError:
            raise unavailable(
                "identity provider",
                "The keys of the identity provider cannot be fetched, so that no token of it can be verified. Try "
                "again shortly.",
                retry_after=10.0,
            ) from None
        found = keys.find(key_id)
        if found is None:
            raise unauthenticated("The token is signed with a key that its issuer does not publish. Sign in again.")
        claims = jwt.decode(
            token,
            found.public,
            algorithms=found.algorithms,
            audience=self._audience,
            issuer=self._issuer,
            leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["exp", "iss", "aud", self._user_claim], "enforce_minimum_key_length": True},
        )
        if keys.number != self._known_by:
            self._known.clear()
            self._known_by = keys.number
        return self._caller(claims)

    def _caller(self, claims: dict[str, Any]) -> Caller:
        user, groups = claims[self._user_claim], claims.get(self._groups_claim, [])
        if not isinstance(user, str) or not is_name(user):
            raise unauthenticated(
                f"The token's claim '{self._user_claim}' must name a user in 1 to 128 printable ASCII characters."
            )
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise unauthenticated(f"The token's claim '{self._groups_claim}' must be a list of names of groups.")
        ends = datetime.fromtimestamp(claims["exp"], UTC)
        return Caller(user, Proof.USER, names_of_groups(groups), user in self._admins, Credential.JWT, ends)

    def _remember(self, name: bytes, caller: Caller) -> None:
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[name] = caller

    def _refusal(self, error: Exception) -> LatheError:
        import jwt

        if isinstance(error, jwt.ExpiredSignatureError):
            return unauthenticated("The token has expired. Sign in again.", "TOKEN_EXPIRED")
        sentences: list[tuple[type[Exception], str]] = [
            (
                jwt.ImmatureSignatureError,
                "is not valid yet. If it is new, the clocks of the issuer and of this server differ",
            ),
            (
                jwt.InvalidAudienceError,
                f"is not for this installation. Ask for one with the audience '{self._audience}'",
            ),
            (jwt.InvalidIssuerError, f"is of another issuer than '{self._issuer}'"),
            (jwt.MissingRequiredClaimError, f"lacks a claim: {error}"),
            (
                jwt.InvalidAlgorithmError,
                "is signed with an algorithm that its key is not for; only asymmetric ones are taken",
            ),
            (jwt.InvalidSignatureError, "has a signature that is not its issuer's"),
            (jwt.InvalidTokenError, "is no JWT that can be read"),
        ]
        said = next((text for kind, text in sentences if isinstance(error, kind)), "cannot be verified")
        return unauthenticated(f"The token {said}.")
