"""A search by real workers, saved as a version that runs, over the command line."""

from __future__ import annotations

import pytest

from tests.e2e.desk import Desk


@pytest.fixture(scope="module")
def found(desk: Desk) -> dict[str, object]:
    """A search with a budget of one second, which is enough for an answer."""
    words = ("--template", "tiny", "--budget", "1")
    task: dict[str, object] = desk.suite.json("optimize", desk.keyed, *words)
    return task


def test_a_second_is_enough_for_an_answer(desk: Desk, found: dict[str, object]) -> None:
    result = found["result"]
    assert isinstance(result, dict)
    assert [each["form"] for each in result["candidates"] if each.get("recommended")]
    assert "model_version" not in result
    assert {"manifest.json", "infer.py", "record.json"} <= {file["path"] for file in result["files"]}


def test_what_is_found_is_saved_beside_its_source(desk: Desk, found: dict[str, object]) -> None:
    saved = desk.suite.json("save", str(found["name"]))
    _, model, _, number = desk.keyed.split("/")
    assert saved["saved_location"] == f"optimized/{found['uid']}/m-{model}/mv-{number}"
    described = desk.suite.json("models", "describe", saved["model_version"])
    assert described["graphs"]
    # The same again is answered from the cache, and is nobody's yet.
    again = desk.suite.json("optimize", desk.keyed, "--template", "tiny", "--budget", "1")
    assert again["origin"]["cache_hit"] == found["name"]
    assert "model_version" not in again["result"]
