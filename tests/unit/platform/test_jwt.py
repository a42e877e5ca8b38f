"""Tokens of an identity provider, which signs them in this process and publishes its keys by HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from services.platform import jwt_keys
from services.platform.authentication import Authenticator, authenticator_for
from services.platform.errors import LatheError
from services.platform.identity import Caller, Credential, Proof
from services.platform.settings import ConfigurationError, Settings
from tests.unit.platform.provider import AUDIENCE, ISSUER, Provider, provider


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with provider() as found:
        yield found


@pytest.fixture
def login(running: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setattr(jwt_keys, "_PAUSE_SECONDS", 0)
    running.published, running.away = ["rsa", "ec", "ed"], False
    return running


def settings_for(login: Provider, **more: Any) -> Settings:
    return Settings(
        auth_issuer=ISSUER, auth_audience=AUDIENCE, auth_jwks=login.url, service_token=SecretStr("s"), **more
    )


async def call(authenticator: Authenticator, token: str) -> Caller:
    return await authenticator.authenticate({"authorization": f"Bearer {token}", "x-lathe-user": "eve"})


async def refused(authenticator: Authenticator, token: str) -> LatheError:
    with pytest.raises(LatheError) as caught:
        await call(authenticator, token)
    assert token not in caught.value.message or not token
    return caught.value


@pytest.mark.parametrize("key", ["rsa", "ec", "ed"])
async def test_a_good_token_names_its_user_and_groups(login: Provider, key: str) -> None:
    authenticator = authenticator_for(settings_for(login, admins="ada"))
    token = login.token(key)
    ada = await call(authenticator, token)
    assert (ada.user, ada.proof, set(ada.groups)) == ("ada", Proof.USER, {"vision", "ops"})
    assert (ada.credential, ada.is_admin) == (Credential.JWT, True)
    assert ada.expires is not None
    assert 0 < ada.expires.timestamp() - time.time() <= 300
    assert await call(authenticator, token) is ada, "a signature is verified once"


async def test_the_claims_can_be_others(login: Provider) -> None:
    settings = settings_for(login, auth_user_claim="email", auth_groups_claim="roles")
    token = login.token(email="ada@example.com", roles=["a b", "équipe"], sub=None, groups=None)
    ada = await call(authenticator_for(settings), token)
    assert (ada.user, set(ada.groups)) == ("ada@example.com", {"a b"})


async def test_clocks_may_differ_by_a_minute(login: Provider) -> None:
    authenticator, now = authenticator_for(settings_for(login)), int(time.time())
    claims: dict[str, Any]
    for claims in ({"exp": now - 50}, {"nbf": now + 50}, {"iat": now + 50}):
        assert (await call(authenticator, login.token(**claims))).user == "ada"


HOUR = 3600
WRONG = [
    ({"aud": "other"}, "UNAUTHENTICATED", "audience 'lathe'"),
    ({"aud": None}, "UNAUTHENTICATED", "aud"),
    ({"iss": "https://evil.example.com/"}, "UNAUTHENTICATED", "another issuer"),
    ({"iss": None}, "UNAUTHENTICATED", "iss"),
    ({"exp": -HOUR}, "TOKEN_EXPIRED", "expired"),
    ({"exp": None}, "UNAUTHENTICATED", "exp"),
    ({"nbf": HOUR}, "UNAUTHENTICATED", "not valid yet"),
    ({"sub": None}, "UNAUTHENTICATED", "sub"),
    ({"sub": ""}, "UNAUTHENTICATED", "must name a user"),
    ({"sub": "a\nb"}, "UNAUTHENTICATED", "must name a user"),
    ({"sub": "a" * 129}, "UNAUTHENTICATED", "must name a user"),
    ({"groups": "vision"}, "UNAUTHENTICATED", "list of names"),
    ({"more": "a" * 20_000}, "UNAUTHENTICATED", "characters; no token"),
]


@pytest.mark.parametrize(("claims", "reason", "said"), WRONG)
async def test_what_is_wrong_is_said(login: Provider, claims: dict[str, Any], reason: str, said: str) -> None:
    at = {name: time.time() + value if name in {"exp", "nbf"} and value else value for name, value in claims.items()}
    told = await refused(authenticator_for(settings_for(login)), login.token(**at))
    assert (told.code, told.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert said in told.message


def forged(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None = None) -> str:
    parts = b".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, claims))
    signature = hmac.new(secret, parts, hashlib.sha256).digest() if secret is not None else b""
    return f"{parts.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def test_forgeries_are_refused(login: Provider) -> None:
    authenticator, claims = authenticator_for(settings_for(login)), login.claims()
    public = login.keys["rsa"][0].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    stranger = Provider("")
    head, body, signature = login.token().split(".")
    other_body = login.token(sub="root").split(".")[1]
    for token in (
        forged({"alg": "none", "kid": "rsa"}, claims),
        forged({"alg": "None", "kid": "rsa"}, claims),
        forged({"alg": "HS256", "kid": "rsa"}, claims, pem),
        forged({"alg": "HS256", "kid": "nothing"}, claims, b""),
        forged({"alg": "RS256", "kid": "rsa", "jwk": stranger.jwks()["keys"][0]}, claims),
        forged({"alg": "RS256", "kid": 7}, claims),
        forged({"alg": "RS256", "kid": "rsa", "crit": ["x"], "x": 1}, claims),
        stranger.token(),
        stranger.token("ec"),
        f"{head}.{other_body}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.!!!",
        "..",
        "a.b.c",
        login.token("ec").replace(login.token("ec").split(".")[0], head),
    ):
        told = await refused(authenticator, token)
        assert told.code is grpc.StatusCode.UNAUTHENTICATED, token
    assert (await call(authenticator, login.token())).user == "ada"


async def test_keys_are_rotated(login: Provider) -> None:
    login.published = ["rsa"]
    authenticator = authenticator_for(settings_for(login))
    old = login.token("rsa")
    await call(authenticator, old)
    assert (await refused(authenticator, login.token("ec"))).message.endswith("does not publish. Sign in again.")
    login.published = ["ec"]
    assert (await call(authenticator, login.token("ec"))).user == "ada"
    assert "does not publish" in (await refused(authenticator, old)).message, "it was verified before"


async def test_strangers_do_not_make_us_ask_the_provider(login: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_keys, "_PAUSE_SECONDS", 3600)
    authenticator, asked = authenticator_for(settings_for(login)), login.asked
    await call(authenticator, login.token())
    for number in range(20):
        await refused(authenticator, forged({"alg": "RS256", "kid": f"k{number}"}, login.claims()))
    assert login.asked - asked == 1


async def test_while_the_provider_is_away_its_last_keys_stay(login: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_keys, "_FRESH_SECONDS", -1)
    login.away = True
    authenticator = authenticator_for(settings_for(login))
    told = await refused(authenticator, login.token())
    assert told.code is grpc.StatusCode.UNAVAILABLE, "nothing is wrong with the token"
    assert told.retry_after
    login.away = False
    await call(authenticator, login.token())
    login.away = True
    for sub in ("ann", "bob"):
        assert (await call(authenticator, login.token(sub=sub))).user == sub
        await asyncio.sleep(0.02)


async def test_many_first_calls_ask_once_and_others_go_on(login: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator, asked = authenticator_for(settings_for(login)), login.asked
    ticks, ticked, load = 0, threading.Event(), jwt_keys.KeySet._load

    def slowly(keys: jwt_keys.KeySet) -> Any:
        assert ticked.wait(5), "nothing else goes on while keys are fetched"
        return load(keys)

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            if ticks > 20:
                ticked.set()
            await asyncio.sleep(0)

    monkeypatch.setattr(jwt_keys.KeySet, "_load", slowly)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(call(authenticator, login.token(sub=f"u{number}")) for number in range(20)))
    ticking.cancel()
    assert login.asked - asked == 1


async def test_keys_of_a_file_and_static_tokens_beside(login: Provider, tmp_path: Path) -> None:
    keys, tokens = tmp_path / "jwks.json", tmp_path / "tokens.json"
    keys.write_text(json.dumps(login.jwks()))
    tokens.write_text('{"t": "ann", "a.b.c": "bob"}')
    settings = settings_for(login, auth_tokens_file=tokens).model_copy(update={"auth_jwks": str(keys)})
    authenticator, asked = authenticator_for(settings), login.asked
    users = [(await call(authenticator, token)).user for token in ("t", "a.b.c", login.token())]
    assert users == ["ann", "bob", "ada"]
    assert login.asked == asked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"auth_audience": ""}, "go together"),
        ({"auth_jwks": "http://login.example.com/keys"}, "https"),
        ({"auth_jwks": "/nowhere"}, "no file of keys"),
        ({"service_token": SecretStr("")}, "LATHE_SERVICE_TOKEN"),
    ],
)
def test_settings_that_cannot_be(login: Provider, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        authenticator_for(settings_for(login).model_copy(update=change))


def test_a_set_without_public_keys_is_none(login: Provider, tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    content: object
    for content in ({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, {"keys": "x"}, [], {"keys": [None]}):
        keys.write_text(json.dumps(content))
        with pytest.raises(ConfigurationError, match="no public key"):
            authenticator_for(settings_for(login).model_copy(update={"auth_jwks": str(keys)}))


@pytest.mark.filterwarnings("ignore:The RSA key is 1024")
async def test_a_weak_key_is_refused(login: Provider, tmp_path: Path) -> None:
    weak = Provider("")
    weak.keys["rsa"] = rsa.generate_private_key(65537, 1024), "RS256"
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(weak.jwks()))
    authenticator = authenticator_for(settings_for(login).model_copy(update={"auth_jwks": str(keys)}))
    assert (await refused(authenticator, weak.token())).code is grpc.StatusCode.UNAUTHENTICATED
