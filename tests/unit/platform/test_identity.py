"""Who calls."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.platform.authentication import OpenAuthenticator, TokenAuthenticator, authenticator_for
from services.platform.errors import LatheError
from services.platform.identity import (
    Caller,
    Proof,
    acting_as,
    become,
    current_user,
    is_loopback,
    may_administer,
    require_service,
    told_of,
)
from services.platform.settings import ConfigurationError, Settings
from services.platform.tokens import StaticToken, hash_of, packed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_open_beyond_loopback_only_when_told_so() -> None:
    with pytest.raises(ConfigurationError, match=r"10\.0\.0\.1"):
        authenticator_for(Settings(bind_host="10.0.0.1"))
    assert isinstance(authenticator_for(Settings(bind_host="10.0.0.1", auth="open")), OpenAuthenticator)


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_tokens_guard_every_address(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens.json", {"t": "ann"})
    settings = Settings(bind_host="0.0.0.0", auth_tokens_file=tokens, service_token=SecretStr("s"))
    assert isinstance(authenticator_for(settings), TokenAuthenticator)


def test_tokens_need_a_service_token(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens.json", {"t": "ann"})
    with pytest.raises(ConfigurationError, match="LATHE_SERVICE_TOKEN"):
        authenticator_for(Settings(auth_tokens_file=tokens))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"t": ""}', '{"": "ann"}', '{"t": 7}', '{"t": "a\\nb"}', "tokens"]
)
def test_a_file_that_is_no_list_of_tokens_is_refused(tmp_path: Path, content: str) -> None:
    tokens = write(tmp_path / "tokens.json", content)
    with pytest.raises(ConfigurationError, match=r"tokens\.json"):
        authenticator_for(Settings(auth_tokens_file=tokens, service_token=SecretStr("s")))


def guarded(tmp_path: Path, **more: Any) -> Any:
    """The authenticator of a service that knows ann, of two groups, and bob, whose token has ended."""
    tokens = [
        StaticToken(id="1", sha256=hash_of("t"), user="ann", groups=("vision", "a, b")),
        StaticToken(id="2", sha256=hash_of("old"), user="bob", expire_time="2026-01-31T12:00:00Z"),
    ]
    file = write(tmp_path / "tokens.json", packed(tokens))
    return authenticator_for(Settings(auth_tokens_file=file, service_token=SecretStr("s"), **more))


async def test_a_user_cannot_speak_for_another(tmp_path: Path) -> None:
    authenticator = guarded(tmp_path)
    ann = await authenticator.authenticate(
        {
            "authorization": "Bearer t",
            "x-lathe-user": "bob",
            "x-lathe-acting": "service",
            "x-lathe-groups-bin": b'["x"]',
        }
    )
    assert (ann.user, ann.proof, ann.groups) == ("ann", Proof.USER, {"vision", "a, b"})
    bob = await authenticator.authenticate({"authorization": "bearer s", "x-lathe-user": "bob"})
    assert (bob.user, bob.proof) == ("bob", Proof.DELEGATE)
    with pytest.raises(LatheError):
        await authenticator.authenticate({"x-lathe-user": "bob"})


async def test_a_service_tells_for_whom_it_calls(tmp_path: Path) -> None:
    authenticator = guarded(tmp_path, admins="ann")
    for caller, proof in (
        (Caller("ann", Proof.USER, frozenset({"vision", "a, b", "équipe"})), Proof.DELEGATE),
        (Caller("ann", Proof.DELEGATE, frozenset({"vision", "a, b"})), Proof.DELEGATE),
        (Caller("ann", Proof.SERVICE), Proof.SERVICE),
    ):
        seen = await authenticator.authenticate({"authorization": "Bearer s", **dict(told_of(caller))})
        assert (seen.user, seen.proof) == ("ann", proof)
        assert seen.groups == caller.groups - {"équipe"}  # what no project can name
        # The rights of the user count at the sibling, too; those of what a service does by itself are not asked.
        assert seen.is_admin is (proof is Proof.DELEGATE)


@pytest.mark.parametrize("groups", [b"vision", b'{"vision": 1}', b"[1]"])
async def test_groups_that_are_none_are_refused(tmp_path: Path, groups: bytes) -> None:
    with pytest.raises(LatheError, match="x-lathe-groups-bin"):
        await guarded(tmp_path).authenticate({"authorization": "Bearer s", "x-lathe-groups-bin": groups})


@pytest.mark.parametrize(
    ("token", "reason", "said"),
    [
        ("old", "TOKEN_EXPIRED", "token of bob expired at 2026-01-31 12:00 UTC"),
        ("x", "UNAUTHENTICATED", "not known"),
        ("x" * 20_000, "UNAUTHENTICATED", "20000 characters"),
    ],
)
async def test_why_a_token_is_refused(tmp_path: Path, token: str, reason: str, said: str) -> None:
    with pytest.raises(LatheError, match=said) as caught:
        await guarded(tmp_path).authenticate({"authorization": f"Bearer {token}"})
    assert caught.value.reason == reason
    assert "x" * 100 not in caught.value.message


@pytest.mark.parametrize(
    ("caller", "administers", "is_service"),
    [
        (Caller("u"), True, True),
        (Caller("u", Proof.USER), False, False),
        (Caller("u", Proof.USER, is_admin=True), True, False),
        (Caller("u", Proof.DELEGATE), False, True),
        (Caller("u", Proof.DELEGATE, is_admin=True), True, True),
        (Caller("u", Proof.SERVICE), True, True),
    ],
)
async def test_what_a_caller_may(caller: Caller, administers: bool, is_service: bool) -> None:
    become(caller)
    assert may_administer() is administers
    try:
        require_service()
    except LatheError:
        assert not is_service
    else:
        assert is_service


async def test_a_block_runs_for_a_user_and_no_other_task_notices() -> None:
    seen: list[str] = []

    async def other() -> None:
        seen.append(current_user())

    task = asyncio.create_task(other())
    with acting_as("ann"):
        assert current_user() == "ann"
        await task
    assert seen == ["anonymous"]
    assert current_user() == "anonymous"


async def test_administrators_are_among_those_with_a_token(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"a": "ann", "b": "bob"}')
    settings = Settings(auth_tokens_file=tokens, service_token=SecretStr("s"), admins=" ann ,")
    authenticator = authenticator_for(settings)
    assert (await authenticator.authenticate({"authorization": "Bearer a"})).is_admin
    assert not (await authenticator.authenticate({"authorization": "Bearer b"})).is_admin
    with pytest.raises(ConfigurationError, match="LATHE_ADMINS names eve"):
        authenticator_for(settings.model_copy(update={"admins": "ann,eve"}))
