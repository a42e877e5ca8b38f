"""Profiles by a real worker, in its sandbox, over the command line: of a source, and of the package made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.desk import Desk

SHORT = ("--rounds", "5", "--threads", "1")


def measured(task: dict[str, Any]) -> list[tuple[str, int]]:
    rows = task["result"]["measurements"]
    assert all(row["latency"]["median_ms"] > 0 and int(row["memory_bytes"]) > 0 for row in rows), rows
    return [(row["runtime"], row["batch_size"]) for row in rows]


@pytest.fixture(scope="module")
def source(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The profile of a source, and its report."""
    report = tmp_path_factory.mktemp("profile") / "profile.html"
    words = ("--device", "cpu-x86-64", "--template", "tiny", "--batch", "1", "--batch", "2", *SHORT)
    runtimes = ("--runtime", "onnxruntime", "--runtime", "openvino", "--runtime", "torchscript")
    return desk.suite.json("profile", desk.keyed, *words, *runtimes, "--report", str(report)), report


def test_a_source_is_measured_in_each_runtime(source: tuple[dict[str, Any], Path]) -> None:
    task, report = source
    runtimes = ("onnxruntime", "openvino", "torchscript")
    assert measured(task) == [(name, batch) for batch in (1, 2) for name in runtimes]
    assert {layer["runtime"] for layer in task["result"]["layers"]} == set(runtimes)
    assert "Layers: torchscript" in report.read_text(encoding="utf-8")


def test_the_package_that_is_made_of_it_is_measured_as_it_is(desk: Desk, source: tuple[dict[str, Any], Path]) -> None:
    package = desk.suite.json("convert", desk.keyed, "--template", "tiny", "--set", "runtime=openvino")
    version = package["result"]["model_version"].removeprefix("models/").replace("/versions/", "/")
    task = desk.suite.json("profile", version, *SHORT)
    assert measured(task) == [("openvino", 1)]
    refused = desk.suite.lathe("profile", version, "--runtime", "onnxruntime", check=False)
    assert refused.returncode == 2
    assert "measured as it was built" in " ".join(refused.stderr.split())
    listed = desk.suite.lathe("tasks", "list", "--kind", "profile").stdout
    assert "openvino" in listed
