from __future__ import annotations

import json
import re

import pytest
from lathe.registry.v1.model_service_pb2 import (
    GraphDescription,
    ListModelsRequest,
    ListModelsResponse,
    Model,
    OperatorCount,
)
from lathe.type.v1.digest_pb2 import Digest
from rich.cells import cell_len

from services.cli.exit_codes import ExitCode, exit_code_for
from services.cli.listing import pages
from services.cli.output import Column, OutputFormat, error, plain, print_rows, show_message, show_messages
from services.cli.views import GRAPHS

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


ROWS = [("pth-cpu-x86-64-onnxruntime-fp32", "onnxruntime", "it goes " * 12, "somebody"), ("b", "c", "d", "名" * 8)]
WIDE: list[Column[tuple[str, ...]]] = [
    Column("id", lambda row: row[0], whole=True),
    Column("runtime", lambda row: row[1]),
    Column("words", lambda row: row[2]),
    Column("owner", lambda row: row[3], detail=True),
]


@pytest.mark.parametrize(
    ("columns", "headers"),
    [(140, ["id", "runtime", "words", "owner"]), (100, ["id", "runtime", "words"]), (44, ["id"])],
)
def test_columns_that_do_not_fit_are_left_out_before_words_break(
    columns: int, headers: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    print_rows(ROWS, WIDE)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert [cell.strip() for cell in lines[0].split("┃")] == headers
    assert max(map(cell_len, lines)) <= columns
    assert [line for line in lines if "pth-cpu-x86-64-onnxruntime-fp32" in line]
    assert "onnxruntime " in lines[2] or headers == ["id"]


def test_a_pipe_gets_every_column(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_rows(ROWS, WIDE)
    assert "somebody" in capsys.readouterr().out


def _page(request: ListModelsRequest) -> ListModelsResponse:
    """Give 7 models, of which it reads 3 at once at most."""
    start = int(request.page_token or 0)
    end = min(start + min(request.page_size, 3), 7)
    names = [Model(name=f"models/{index}") for index in range(start, end)]
    return ListModelsResponse(models=names, next_page_token=str(end) if end < 7 else "")


def test_a_list_with_more_pages_tells_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    assert [model.name for model in pages(_page, ListModelsRequest(), "models", 5)] == [
        f"models/{index}" for index in range(5)
    ]
    told = capsys.readouterr().err
    assert told == "There are more: show the next with --page 5, or more at once with --limit.\n"
    assert [model.name for model in pages(_page, ListModelsRequest(), "models", 5, "5")] == ["models/5", "models/6"]
    assert len(pages(_page, ListModelsRequest(), "models", 7)) == 7
    assert not capsys.readouterr().err


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


def test_a_form_whose_file_nobody_could_read_has_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    show_messages([GraphDescription(component="net", path="net/model.plan")], GRAPHS, OutputFormat.TABLE)
    assert "0 B" not in capsys.readouterr().out
    known = GraphDescription(component="net", operators=[OperatorCount(operator="Relu", count=1)])
    show_messages([known], GRAPHS, OutputFormat.TABLE)
    assert "0 B" in capsys.readouterr().out
