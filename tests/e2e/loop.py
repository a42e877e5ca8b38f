"""Steps of the loop by the command line, and what is looked at in their results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.e2e.beasts import Beasts

BOUND = ("--max-degradation", "1", "--accuracy-dataset", "scenes")


def quantize(beasts: Beasts, folder: str, *flags: str) -> dict[str, Any]:
    """Quantize the package on a dataset of classes, within a bound; return the task."""
    arguments = ["quantize", beasts.package, "-d", folder, "--samples", "16", "--batch", "4", *BOUND]
    task: dict[str, Any] = beasts.desk.suite.json(*arguments, *flags)
    return task


def evaluate(beasts: Beasts, version: str, *flags: str) -> dict[str, Any]:
    """Evaluate a version on the scenes, slice by slice; return the task."""
    task: dict[str, Any] = beasts.desk.suite.json(
        "evaluate", version, "-d", "scenes", "--slice", "scene", "--batch", "4", *flags
    )
    return task


def figures(task: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Return what an evaluation found, by metric and slice."""
    return {(each["name"], each.get("slice", "")): each.get("value", 0.0) for each in task["result"]["metrics"]}


def self_contained(path: Path) -> bool:
    """Tell whether a page is whole, and asks nothing of anybody: no script, style, image or font from elsewhere."""
    text = path.read_text()
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')>\s]*)""", text)
    loaded = [link for link in links if not link.startswith(("#", "data:"))]
    assert not loaded, loaded
    assert "<script src" not in text
    assert "@import" not in text
    return text.lstrip().lower().startswith("<!doctype html>") and text.rstrip().endswith("</html>")
