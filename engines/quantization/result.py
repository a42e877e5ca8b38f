"""The result of a quantization as the API has it, over all components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.parity.report import worst
from engines.quantization.component import QuantizedComponent
from engines.quantization.coverage import Coverage
from engines.quantization.request import QuantizationRequest
from engines.quantization.sensing import cost_fields


def result_fields(work: QuantizationRequest, done: Sequence[QuantizedComponent]) -> dict[str, Any]:
    """Return `lathe.quantizer.v1.QuantizationResult` without the fields that name resources, digests and software.

    Outputs, nodes and candidates of a model of several components are named `component/name`. Latencies are those of
    the first component: each was measured on its own, and the package's `report.json` has them all.
    """
    several = len(done) > 1
    values: dict[str, Any] = {
        "source_size_bytes": str(sum(entry.source_bytes for entry in done)),
        "size_bytes": str(sum(entry.chosen.size_bytes for entry in done)),
        "sensitivities": _joined(done, "node", several, lambda entry: cost_fields(entry.costs)),
        "ladder": [rung for entry in done for rung in entry.ladder],
        "parity": _parity(done, several),
        "profile": done[0].packaged.profile.to_dict(),
        "no_gain_reason": " ".join(entry.no_gain for entry in done if entry.no_gain),
        "candidates": _joined(done, "quantizer", several, lambda entry: entry.candidates),
        "coverage": sum((entry.chosen.coverage for entry in done), Coverage()).to_dict(),
        "warnings": list(dict.fromkeys(words for entry in done for words in entry.warnings)),
    }
    bound = done[0].bound
    if bound is not None:
        chosen = done[0].chosen
        values |= {
            "source_accuracy": bound.source,
            "accuracy": chosen.accuracy,
            "metric": bound.judge.metric,
            "bound_held": chosen.holds,
        }
    return values


def _joined(done: Sequence[QuantizedComponent], key: str, several: bool, part: Any) -> list[dict[str, Any]]:
    rows = []
    for entry in done:
        prefix = f"{entry.packaged.component.name}/" if several else ""
        rows += [{**row, key: prefix + row[key]} for row in part(entry)]
    return sorted(rows, key=lambda row: float(row["sqnr_db"])) if several and key == "node" else rows


def _parity(done: Sequence[QuantizedComponent], several: bool) -> dict[str, Any]:
    first = done[0].packaged.parity.to_dict()
    if not several:
        return first
    reports = [(entry.packaged.component.name, entry.packaged.parity) for entry in done]
    return {
        **first,
        "verdict": worst([report.verdict for _, report in reports]).value,
        "outputs": [
            {**output, "output": f"{name}/{output['output']}"}
            for name, report in reports
            for output in report.to_dict()["outputs"]
        ],
    }
