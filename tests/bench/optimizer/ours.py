"""What Lathe makes of a model at each goal: the optimizer's own entry, in the sandboxed child, as workers run it."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure
from engines.runtimes.form import FormSpec, Made
from engines.runtimes.protocol import BuiltForm
from engines.spec.source_files import TEST_DATA
from services.optimizer.work import CALIBRATION_FILE, OptimizationWorkKind
from tests.bench import child
from tests.bench.optimizer.layout import Layout

GOALS = ("FP32", "BF16", "INT8")
LEAST_COSINE = 0.99
WORK = OptimizationWorkKind("cpu-x86-64")
_GRACE_SECONDS = 900.0
"""What reading, the forms that were begun and the last measurement may take beyond the budget."""
_SAID = 100
"""Longest reason of a candidate in the table."""


@dataclass
class Search:
    """What one search gave.

    Attributes:
        goal: Lowest precision that it was allowed.
        made: The recommended form; None if the search failed.
        form: What it is, in words.
        candidates: Every candidate, as the result has it.
        no_gain_reason: Why it recommends the source form, if it does.
        seconds: Time of the whole job.
        failure: Why there is no result.
    """

    goal: str
    made: Made | None = None
    form: str = ""
    candidates: list[dict[str, Any]] = field(default_factory=list)
    no_gain_reason: str = ""
    seconds: float = 0.0
    failure: str = ""

    @property
    def best_int8_cosine(self) -> float:
        """Cosine of the fastest candidate in INT8 that holds; NaN if none does."""
        found = [
            (candidate["latency"]["median_ms"], cosine)
            for candidate in self.candidates
            if candidate["precision"] == "INT8" and "latency" in candidate and "failure" not in candidate
            if (cosine := _cosine(candidate)) >= LEAST_COSINE
        ]
        return min(found)[1] if found else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {key: value for key, value in self.__dict__.items() if key != "made"}

    def notes(self) -> list[str]:
        """Return a line for each candidate: its figures, and what became of it."""
        return [self._note(candidate) for candidate in self.candidates]

    def _note(self, candidate: dict[str, Any]) -> str:
        figures = []
        if "latency" in candidate:
            figures.append(f"{candidate['latency']['median_ms']:.3f} ms")
        if "parity" in candidate:
            figures.append(f"cosine {_cosine(candidate):.4f}")
        failure = candidate.get("failure", {})
        said = "recommended" if candidate.get("recommended") else failure.get("message") or candidate.get("note", "")
        return f"{candidate['form']}: {', '.join([*figures, said[:_SAID]]).rstrip(', ')}"


def _cosine(candidate: dict[str, Any]) -> float:
    return min((float(output["cosine"]) for output in candidate.get("parity", {}).get("outputs", ())), default=math.nan)


def search(layout: Layout, goal: str, folder: Path, budget_seconds: int, earlier: Path | None) -> Search:
    """Optimize a model.

    Args:
        layout: The model.
        goal: Lowest precision that is allowed.
        folder: Where the search works; its package stays there.
        budget_seconds: Time of the search.
        earlier: Folder of a search of the same model, whose measurements are taken over.
    """
    _lay_out(layout, goal, folder, earlier)
    request = _request(goal, budget_seconds)
    try:
        measured = child.run(WORK.entry, request, folder, WORK.preload, budget_seconds + _GRACE_SECONDS)
    except EngineFailure as failure:
        return Search(goal, failure=f"{failure.reason.value}: {failure.message} {failure.evidence[-300:]}".strip())
    result = measured.result["result"]
    chosen = next(row for row in result["candidates"] if row.get("recommended"))
    return Search(
        goal,
        packaged(folder / "package", chosen),
        chosen["form"],
        result["candidates"],
        result.get("no_gain_reason", ""),
        measured.seconds,
    )


def _lay_out(layout: Layout, goal: str, folder: Path, earlier: Path | None) -> None:
    for name in ("source", "samples"):
        (folder / name).mkdir(parents=True)
    shutil.copy(layout.folder / "model.pt2", folder / "source/model.pt2")
    shutil.copy(layout.folder / "test.npz", folder / TEST_DATA)
    if goal == "INT8":
        shutil.copy(layout.folder / "calibration.npz", folder / CALIBRATION_FILE)
    if earlier and (earlier / "package/record.json").is_file():
        shutil.copy(earlier / "package/record.json", folder / "record.json")


def _request(goal: str, budget_seconds: int) -> dict[str, Any]:
    template = {
        "method": "raw",
        "source_format": "EXPORTED_PROGRAM",
        "device": "cpu-x86-64",
        "error_threshold": 1e-3,
        "components": [{"name": "net", "output_names": ["output"]}],
    }
    conversion = {
        "inputs": [{"path": "source/model.pt2"}],
        "template": template,
        "samples_path": TEST_DATA,
        "source_digest": "0" * 64,
    }
    spec = {"precision_goal": goal, "objective": "LATENCY", "search_budget": f"{budget_seconds}s"}
    return {"conversion": conversion, "spec": spec}


def packaged(package: Path, chosen: dict[str, Any]) -> Made:
    """Return the form in a package, as its manifest says that it is to be opened."""
    manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
    (component,) = manifest["components"]
    runtime = (component.get("runtime") or manifest["runtime"])["name"]
    precision = component.get("precision") or manifest["precision"]
    files = (component["entry"], *(name for name in component["files"] if name != component["entry"]))
    outputs = tuple(tensor["name"] for tensor in component["signature"]["outputs"])
    form = BuiltForm(runtime, "cpu-x86-64", precision, package, files, outputs, component["options"])
    knobs = dict(chosen.get("knobs", {}))
    reader = knobs.pop("reader", "")
    spec = FormSpec(runtime, precision, chosen.get("quantizer", "") and "quantized", reader, tuple(knobs.items()))
    return Made(spec, form)
