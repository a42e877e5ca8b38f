"""Who calls: found out from the metadata and the certificate of a call.

open     nobody asks: `x-lathe-user` names the user. The default on loopback
tokens   `authorization: Bearer …` with a token of the file (`tokens`) or of an identity provider (`jwt`)
service  Lathe's own services speak for their callers, by the service token, or by a certificate at the internal port
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from hmac import compare_digest
from typing import Protocol

from services.platform import identity
from services.platform.errors import unauthenticated
from services.platform.identity import Caller, Credential, Proof, is_loopback
from services.platform.jwt import Issuer
from services.platform.settings import ConfigurationError, Settings
from services.platform.tokens import TokenFile, hash_of

__all__ = ["Authenticator", "OpenAuthenticator", "TokenAuthenticator", "authenticator_for"]

# Larger than what any identity provider issues; to hash and to parse more is work for nothing.
_MOST_TOKEN_BYTES = 16 << 10

_DOTS_OF_A_JWT = 2

Metadata = Mapping[str, str | bytes]


class Peer(Protocol):
    """What gRPC knows of the other side of a connection."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what it proved by its certificate."""
        ...


class Authenticator(Protocol):
    """Finds out who calls."""

    async def authenticate(self, metadata: Metadata, peer: Peer | None = None) -> Caller:
        """Return the caller that the metadata of a call names; raise LatheError if that is nobody known."""
        ...


class OpenAuthenticator:
    """Trusts the metadata: for one machine, or behind a gateway that authenticates."""

    async def authenticate(self, metadata: Metadata, peer: Peer | None = None) -> Caller:
        """Return the user of `x-lathe-user`, or "anonymous"."""
        return Caller(identity.named_user(metadata))


class TokenAuthenticator:
    """Knows callers by bearer tokens. Static tokens are kept and compared as hashes only.

    Args:
        tokens: Static tokens of users; None if there are none.
        issuer: An identity provider whose tokens are taken; None if there is none.
        service_token: The services' own; empty if they have none.
        hosts: The services' hosts: who shows a certificate for one is a service. Empty if they use the token.
        admins: Users who administer the installation.
    """

    def __init__(
        self,
        tokens: TokenFile | None,
        issuer: Issuer | None,
        service_token: str,
        hosts: frozenset[str] = frozenset(),
        admins: Collection[str] = (),
    ) -> None:
        self._hosts = hosts
        self._tokens = tokens
        self._issuer = issuer
        self._admins = frozenset(admins)
        self._service = hash_of(service_token) if service_token else ""

    async def authenticate(self, metadata: Metadata, peer: Peer | None = None) -> Caller:
        """Return the user whose token it is; of a service, the user for whom it calls."""
        if self._hosts and peer is not None and not self._hosts.isdisjoint(_certified(peer)):
            return self._service_for(metadata, Credential.CERTIFICATE)
        scheme, _, token = str(metadata.get(identity.TOKEN_KEY, "")).partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("A token is needed: send the metadata `authorization: Bearer <token>`.")
        if len(token) > _MOST_TOKEN_BYTES:
            raise unauthenticated(f"The token has {len(token)} characters; no token may have over {_MOST_TOKEN_BYTES}.")
        if self._service and compare_digest(hash_of(token), self._service):
            return self._service_for(metadata, Credential.TOKEN)
        found = self._tokens.find(token) if self._tokens else None
        if found is None and self._issuer is not None and token.count(".") == _DOTS_OF_A_JWT:
            return await self._issuer.authenticate(token)
        if found is None:
            raise unauthenticated("The token is not known to this installation. Ask its operators for a valid one.")
        if found.ended:
            raise unauthenticated(
                f"The token of {found.user} expired at {found.expire_time:%Y-%m-%d %H:%M} UTC. Ask the operators of "
                "this installation for a new one.",
                "TOKEN_EXPIRED",
            )
        admin = found.user in self._admins
        return Caller(
            found.user, Proof.USER, frozenset(found.groups), admin, Credential.TOKEN, expires=found.expire_time
        )

    def _service_for(self, metadata: Metadata, credential: Credential) -> Caller:
        """Return the caller of a service: the user for whom it calls, or the service itself if it says so."""
        user = identity.named_user(metadata)
        if metadata.get(identity.ACTING_KEY) == identity.ACTING_BY_ITSELF:
            return Caller(user, Proof.SERVICE, credential=credential)
        groups = identity.named_groups(metadata)
        return Caller(user, Proof.DELEGATE, groups, user in self._admins, credential)


def authenticator_for(settings: Settings) -> Authenticator:
    """Return the authenticator that the settings ask for.

    Raises:
        ConfigurationError: The service would be open to the network, or the tokens cannot be used.
    """
    if not settings.asks_for_tokens:
        if settings.auth != "open" and not is_loopback(settings.bind_host):
            raise ConfigurationError(
                f"LATHE_BIND_HOST is {settings.bind_host}, which others can reach, but there is no authentication. Set "
                "LATHE_AUTH_TOKENS_FILE to a file of tokens (`lathe tokens add` makes it), or LATHE_AUTH_ISSUER, "
                "LATHE_AUTH_AUDIENCE and LATHE_AUTH_JWKS for an identity provider; or LATHE_AUTH=open if the network "
                "itself is protected."
            )
        return OpenAuthenticator()
    # With certificates there is no token that could be stolen, and none is taken.
    by_certificate = bool(settings.internal_port)
    service_token = "" if by_certificate else settings.service_token.get_secret_value()
    tokens = TokenFile(settings.auth_tokens_file, service_token) if settings.auth_tokens_file else None
    issuer = Issuer(settings) if settings.auth_issuer or settings.auth_audience or settings.auth_jwks else None
    if not service_token and not by_certificate:
        raise ConfigurationError(
            f"{'LATHE_AUTH_TOKENS_FILE' if tokens else 'LATHE_AUTH_ISSUER'} is set, so LATHE_SERVICE_TOKEN is needed "
            "too: one secret, the same for every service, with which they call each other; or LATHE_INTERNAL_PORT, "
            "at which they show certificates."
        )
    unknown = settings.admin_users - tokens.users if tokens and not issuer else frozenset()
    if unknown:
        raise ConfigurationError(
            f"LATHE_ADMINS names {', '.join(sorted(unknown))}, to whom no token of LATHE_AUTH_TOKENS_FILE belongs. "
            "Correct the name, or add a token."
        )
    hosts = settings.sibling_hosts if by_certificate else frozenset()
    return TokenAuthenticator(tokens, issuer, service_token, hosts, settings.admin_users)


def _certified(peer: Peer) -> Iterator[str]:
    """Yield the names for which the other side has shown a certificate; only the internal port asks for one."""
    for name in peer.auth_context().get("x509_subject_alternative_name", ()):
        yield name.decode(errors="replace")
