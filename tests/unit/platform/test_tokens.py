"""The file of static tokens."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.platform import reread
from services.platform.settings import ConfigurationError
from services.platform.tokens import StaticToken, TokenFile, hash_of, new_token, packed, read_tokens

ANN = StaticToken(id="1", sha256=hash_of("of-ann"), user="ann")
BOB = StaticToken(id="2", sha256=hash_of("of-bob"), user="bob", groups=("vision",))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reread, "LOOK_AGAIN_SECONDS", 0)
    path = tmp_path / "tokens.json"
    path.write_text(packed([ANN]))
    return path


def replace(path: Path, text: str) -> None:
    draft = path.with_name("draft")
    draft.write_text(text)
    draft.replace(path)


def test_a_file_is_read_again_when_it_changes(path: Path) -> None:
    file = TokenFile(path)
    assert file.find("of-ann") == ANN
    assert file.find("of-bob") is None
    replace(path, packed([BOB]))
    assert file.find("of-bob") == BOB
    assert file.find("of-ann") is None, "it is revoked"


@pytest.mark.parametrize(
    "broken", ["", "{", '{"tokens": [{}]}', '{"tokens": [{"id": "", "sha256": "x", "user": ""}]}', None]
)
def test_a_broken_file_leaves_what_was_known_and_is_told_once(path: Path, broken: str | None) -> None:
    file = TokenFile(path)
    replace(path, broken) if broken is not None else path.unlink()
    with capture_logs() as lines:
        assert file.find("of-ann") == ANN
        assert file.find("of-ann") == ANN
    assert [line["log_level"] for line in lines] == ["error"]
    assert "stay valid" in lines[0]["event"]
    replace(path, packed([BOB]))
    assert file.find("of-bob") == BOB


def test_no_user_has_the_token_of_the_services(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="gives ann the token of LATHE_SERVICE_TOKEN"):
        TokenFile(path, "of-ann")
    file = TokenFile(path, "of-bob")
    replace(path, packed([ANN, BOB]))
    with capture_logs() as lines:
        assert file.find("of-bob") is None
    assert "gives bob the token" in lines[0]["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user": ""}, "user and the groups of 1"),
        ({"groups": ["a\nb"]}, "user and the groups of 1"),
        ({"sha256": "secret-token"}, r"tokens\.0\.sha256"),
        ({"expire_time": "tomorrow"}, r"tokens\.0\.expire_time"),
        ({"expire_time": "2027-01-01T00:00:00"}, r"tokens\.0\.expire_time"),
        ({"admin": True}, r"tokens\.0\.admin"),
    ],
)
def test_what_is_wrong_is_named_and_no_token_is_shown(path: Path, change: dict[str, object], said: str) -> None:
    path.write_text(json.dumps({"tokens": [{**ANN.model_dump(mode="json", exclude_none=True), **change}]}))
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_tokens(path)
    assert "secret-token" not in str(caught.value)


def test_a_file_of_earlier_releases_is_read_with_a_warning(path: Path) -> None:
    path.write_text('{"of-ann": "ann"}')
    with capture_logs() as lines:
        token = TokenFile(path).find("of-ann")
    assert token is not None
    assert (token.user, token.sha256) == ("ann", hash_of("of-ann"))
    assert (lines[0]["log_level"], "lathe tokens convert" in lines[0]["to_do"]) == ("warning", True)
    assert "of-ann" not in str(lines)


def test_to_find_a_token_among_ten_thousand_is_quick(path: Path) -> None:
    many = [StaticToken(id=str(number), sha256=hash_of(str(number)), user="u") for number in range(10_000)]
    path.write_text(packed(many))
    started = time.thread_time()
    file = TokenFile(path)
    assert file.find("9999")
    read = time.thread_time() - started
    for _ in range(1000):
        assert file.find("9999")
    # A thousand take a fortieth of what reading the file takes; to compare each token would take twenty times as long.
    assert time.thread_time() - started < 2 * read


def test_tokens_are_not_guessed() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(token.startswith("lathe_") and len(token) > 40 for token in made)
