"""Who calls."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.platform.errors import LatheError
from services.platform.identity import (
    OpenAuthenticator,
    TokenAuthenticator,
    acting_as,
    authenticator_for,
    current_user,
    is_loopback,
)
from services.platform.settings import ConfigurationError, Settings


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


def test_a_user_cannot_speak_for_another() -> None:
    authenticator = TokenAuthenticator({"t": "ann"}, "s")
    assert authenticator.authenticate({"authorization": "Bearer t", "x-lathe-user": "bob"}).user == "ann"
    assert authenticator.authenticate({"authorization": "bearer s", "x-lathe-user": "bob"}).user == "bob"
    with pytest.raises(LatheError):
        authenticator.authenticate({"x-lathe-user": "bob"})


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


def test_administrators_are_among_those_with_a_token(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"a": "ann", "b": "bob"}')
    settings = Settings(auth_tokens_file=tokens, service_token=SecretStr("s"), admins=" ann ,")
    authenticator = authenticator_for(settings)
    assert authenticator.authenticate({"authorization": "Bearer a"}).is_admin
    assert not authenticator.authenticate({"authorization": "Bearer b"}).is_admin
    with pytest.raises(ConfigurationError, match="LATHE_ADMINS names eve"):
        authenticator_for(settings.model_copy(update={"admins": "ann,eve"}))
