"""`lathe tokens`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.platform.tokens import TokenFile, hash_of, read_tokens
from tests.unit.cli.conftest import Lathe


def test_a_token_is_made_listed_and_revoked(lathe: Lathe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.json"
    monkeypatch.setenv("LATHE_AUTH_TOKENS_FILE", str(path))
    added = lathe("tokens", "add", "ada", "--group", "vision", "--expires", "12h")
    token = added.out.strip()
    assert (added.code, "valid until" in added.err) == (0, True)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    found = TokenFile(path).find(token)
    assert found is not None
    assert (found.user, found.groups, found.ended) == ("ada", ("vision",), False)
    path.chmod(0o640)
    lathe("tokens", "add", "bob", "--expires", "never")
    listed = json.loads(lathe("tokens", "list", "-o", "json").out)
    assert [(each["user"], "sha256" in each) for each in listed] == [("ada", False), ("bob", False)]
    assert lathe("tokens", "revoke", found.id, listed[1]["id"]).code == 0
    assert read_tokens(path) == ()
    assert path.stat().st_mode & 0o777 == 0o640, "who could read the file still can"


def test_a_file_of_an_earlier_release_is_converted(lathe: Lathe, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"of-ann": "ann"}')
    assert lathe("tokens", "convert", "--file", str(path)).code == 0
    assert "of-ann" not in path.read_text()
    assert [(token.user, token.sha256) for token in read_tokens(path)] == [("ann", hash_of("of-ann"))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "a\nb"), "1 to 128 printable"),
        (("add", "ann", "--expires", "0d"), "90d, 12h or 30m"),
        (("revoke", "nothing"), "There is no token nothing"),
    ],
)
def test_what_is_wrong_changes_nothing(lathe: Lathe, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"tokens": []}')
    ended = lathe("tokens", *words, "--file", str(path))
    assert (ended.code != 0, said in ended.err) == (True, True)
    assert path.read_text() == '{"tokens": []}'


def test_which_file_must_be_said(lathe: Lathe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATHE_AUTH_TOKENS_FILE", raising=False)
    assert "LATHE_AUTH_TOKENS_FILE" in lathe("tokens", "list").err
