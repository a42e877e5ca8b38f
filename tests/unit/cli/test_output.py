from __future__ import annotations

import json

import pytest
from lathe.type.v1.digest_pb2 import Digest

from services.cli.exit_codes import ExitCode, exit_code_for
from services.cli.output import Column, OutputFormat, error, plain, show_message, show_messages

DIGESTS = [Digest(sha256="ab" * 32, size_bytes=7), Digest(sha256="[red]", size_bytes=2**40)]
COLUMNS: list[Column[Digest]] = [
    Column("sha256", lambda digest: plain(digest.sha256)),
    Column("bytes", lambda digest: str(digest.size_bytes), numeric=True),
]


def test_messages_as_json_are_proto_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_messages(DIGESTS, COLUMNS, OutputFormat.JSON)
    rows = json.loads(capsys.readouterr().out)
    assert rows == [{"sha256": "ab" * 32, "size_bytes": "7"}, {"sha256": "[red]", "size_bytes": str(2**40)}]
    show_message(DIGESTS[0], COLUMNS, OutputFormat.JSON)
    assert json.loads(capsys.readouterr().out) == rows[0]
    show_messages([], COLUMNS, OutputFormat.JSON)
    assert json.loads(capsys.readouterr().out) == []


def test_a_table_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show_messages(DIGESTS, COLUMNS, OutputFormat.TABLE)
    shown = capsys.readouterr().out
    assert "[red]" in shown
    assert "1099511627776" in shown
    show_message(DIGESTS[1], COLUMNS, OutputFormat.TABLE)
    assert "[red]" in capsys.readouterr().out


def test_an_empty_table_is_a_sentence_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show_messages([], COLUMNS, OutputFormat.TABLE, empty="No digests.")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "No digests.\n")


def test_an_error_is_one_sentence_with_its_details(capsys: pytest.CaptureFixture[str]) -> None:
    error("It is [wrong].", ("a: b", "c"))
    assert capsys.readouterr().err == "error: It is [wrong].\n  a: b\n  c\n"


@pytest.mark.parametrize(
    ("name", "code"),
    [("NOT_FOUND", 3), ("UNAVAILABLE", 4), ("INVALID_ARGUMENT", 2), ("ABORTED", 7), ("INTERNAL", 1), ("UNKNOWN", 1)],
)
def test_exit_codes_of_grpc_codes(name: str, code: int) -> None:
    assert exit_code_for(name) is ExitCode(code)
