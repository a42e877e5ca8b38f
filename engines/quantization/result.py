"""The result of a quantization as the API has it, over all components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.package.content import PackagedComponent
from engines.parity.report import worst
from engines.quantization.choosing import Found
from engines.quantization.coverage import Coverage
from engines.quantization.graphs import weights_size
from engines.quantization.request import QuantizationRequest
from engines.quantization.sensitivity import NodeSensitivity
from engines.search.entry import Entry
from engines.search.truth import Truth


@dataclass(frozen=True)
class ComponentQuantization:
    """A quantized component, in the package.

    Attributes:
        packaged: Its entry in the package.
        found: The forms that were tried.
        chosen: The form that became the result.
        truth: The outputs that forms were compared with.
        excluded: Nodes that the request keeps in floating point.
        coverage: How much of the result is in integers.
        costs: Quantized nodes, the most sensitive first.
        source_bytes: Size of the source's weights.
        no_gain: Why it is not faster; empty if it is.
        warnings: Warnings for the user.
    """

    packaged: PackagedComponent
    found: Found
    chosen: Entry
    truth: Truth
    excluded: frozenset[str]
    coverage: Coverage
    costs: Sequence[NodeSensitivity]
    source_bytes: int
    no_gain: str
    warnings: Sequence[str]


def shortfall(entry: Entry, truth: Truth) -> str:
    """Return why a form may not be used, in words; empty if it may."""
    if entry.failure is None:
        return ""
    if (
        entry.accuracy is not None
        and truth.source_accuracy is not None
        and truth.thresholds.max_degradation is not None
    ):
        lost = (truth.source_accuracy - entry.accuracy) * 100
        return (
            f"it loses {lost:.2f} points of {truth.metric}, more than the {truth.thresholds.max_degradation:g} allowed"
        )
    return entry.parity.shortfall if entry.misses and entry.parity else entry.failure.message


def result_fields(work: QuantizationRequest, done: Sequence[ComponentQuantization]) -> dict[str, Any]:
    """Return `lathe.quantizer.v1.QuantizationResult` without the fields that name resources, digests and software.

    Outputs, nodes and candidates of a model of several components are named `component/name`. Latencies are those of
    the first component: each was measured on its own, and the package's `report.json` has them all.
    """
    several = len(done) > 1
    values: dict[str, Any] = {
        "source_size_bytes": str(sum(entry.source_bytes for entry in done)),
        "size_bytes": str(sum(_size(entry.chosen) for entry in done)),
        "sensitivities": _joined(done, "node", several, _costs),
        "ladder": [rung for entry in done for rung in _ladder(entry)],
        "parity": _parity(done, several),
        **({"profile": profile.to_dict()} if (profile := done[0].found.profile) else {}),
        "no_gain_reason": " ".join(entry.no_gain for entry in done if entry.no_gain),
        "candidates": _joined(done, "quantizer", several, _candidates),
        "coverage": sum((entry.coverage for entry in done), Coverage()).to_dict(),
        "warnings": list(dict.fromkeys(words for entry in done for words in entry.warnings)),
    }
    truth, chosen = done[0].truth, done[0].chosen
    if truth.judge is not None:
        values |= {
            "source_accuracy": truth.source_accuracy,
            "accuracy": chosen.accuracy,
            "metric": truth.metric,
            "bound_held": chosen.failure is None,
        }
    return values


def _costs(entry: ComponentQuantization) -> list[dict[str, Any]]:
    """Return costs as `lathe.quantizer.v1.NodeSensitivity`."""
    return [cost.to_dict() for cost in entry.costs if math.isfinite(cost.sqnr_db)]


def _ladder(done: ComponentQuantization) -> list[dict[str, Any]]:
    """Return the rungs that were climbed, as `lathe.quantizer.v1.AccuracyRung`."""
    return [
        {
            "floating_point_nodes": sorted(entry.spec.kept),
            "median_ms": entry.latency.median_ms if entry.latency else 0.0,
            "accuracy": done.truth.score(entry),
        }
        for entry in done.found.entries
        if entry.spec.kept and entry.parity
    ]


def _candidates(done: ComponentQuantization) -> list[dict[str, Any]]:
    """Return every candidate as `lathe.quantizer.v1.QuantizationCandidate`, with why it was not chosen."""
    return [_candidate(entry, done) for entry in done.found.entries if not entry.spec.kept]


def _candidate(entry: Entry, done: ComponentQuantization) -> dict[str, Any]:
    words, chosen = shortfall(entry, done.truth), done.chosen
    if entry.parity is None or entry.parity.missing:
        unseen = {"chosen": entry is chosen, "size_bytes": str(_size(entry))} if entry.parity else {}
        return {
            "quantizer": entry.spec.quantized_by,
            **unseen,
            "reason": words or entry.note or described(entry, done.truth),
        }
    cosine, sqnr_db = done.truth.fidelity(entry.parity)
    values: dict[str, Any] = {
        "quantizer": entry.spec.quantized_by,
        "cosine": cosine,
        "sqnr_db": sqnr_db,
        "median_ms": entry.latency.median_ms if entry.latency else 0.0,
        "size_bytes": str(_size(entry)),
    }
    if entry.accuracy is not None:
        values["accuracy"] = entry.accuracy
    if entry is chosen:
        return {**values, "chosen": True, "reason": words}
    if words:
        if chosen.spec.kept and entry.spec.quantizer == chosen.spec.quantizer:
            words += f"; with {len(chosen.spec.kept)} nodes in floating point it became the result"
        return {**values, "reason": words}
    if done.found.profile is None:
        return {**values, "reason": "the result comes first, and nothing was timed"}
    if entry.latency is None or chosen.latency is None or entry.latency.speedup < chosen.latency.speedup:
        return {**values, "reason": "the result is faster"}
    return {**values, "reason": "no faster than the result beyond noise, and more complex"}


def _size(entry: Entry) -> int:
    return weights_size(entry.made.form) if entry.made else entry.size_bytes


def _joined(done: Sequence[ComponentQuantization], key: str, several: bool, part: Any) -> list[dict[str, Any]]:
    rows = []
    for entry in done:
        prefix = f"{entry.packaged.component.name}/" if several else ""
        rows += [{**row, key: prefix + row[key]} for row in part(entry)]
    return sorted(rows, key=lambda row: float(row["sqnr_db"])) if several and key == "node" else rows


def _parity(done: Sequence[ComponentQuantization], several: bool) -> dict[str, Any]:
    first = done[0].packaged.parity_report
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


def described(entry: Entry, truth: Truth) -> str:
    """Return the outcome of a form, as a line for people."""
    if entry.parity is None:
        return f"failed: {entry.failure.message} {entry.failure.evidence}" if entry.failure else entry.note
    if entry.parity.missing:
        return f"{entry.parity.verdict}: it was made and not run"
    cosine, sqnr = truth.fidelity(entry.parity)
    accuracy = "" if entry.accuracy is None else f", accuracy {entry.accuracy:.4f}"
    return f"cosine {cosine:.5f}, SQNR {sqnr:.1f} dB{accuracy}: {shortfall(entry, truth) or entry.note or 'holds'}"


def none_holds(component: str, truth: Truth, found: Found, chosen: Entry) -> EngineFailure:
    """Return the failure of a component of which no form computes what its source computes."""
    made = [entry for entry in found.entries if entry.parity is not None]
    tried = [f"{entry.spec.quantized_by}: {described(entry, truth)}" for entry in made if not entry.spec.kept]
    rungs = [f"{len(entry.spec.kept)} nodes: {truth.score(entry):.4f}" for entry in made if entry.spec.kept]
    return EngineFailure(
        FailureReason.PARITY_FAILED,
        f"No form of component '{component}' computes what its source computes; of the best one, "
        f"{shortfall(chosen, truth)}.",
        evidence="; ".join(tried) + (f"; cosine with nodes in floating point: {', '.join(rungs)}" if rungs else ""),
        suggested_fix="Calibrate on data like the model's future inputs; choose WEIGHT_ONLY or a floating-point "
        "precision; or bound the accuracy instead (`accuracy`, --max-degradation), which decides instead of parity.",
    )


def all_failed(entries: Sequence[Entry]) -> EngineFailure:
    """Return the failure of a search in which no tool made a form, with the message of each."""
    failures = [(entry.spec.quantized_by, entry.failure) for entry in entries if entry.failure]
    if len({failure.message for _, failure in failures}) == 1:
        return failures[0][1]
    kinds = {failure.reason for _, failure in failures}
    fixes = list(dict.fromkeys(failure.suggested_fix for _, failure in failures if failure.suggested_fix))
    return EngineFailure(
        kinds.pop() if len(kinds) == 1 else FailureReason.TOOLCHAIN_CRASHED,
        "No quantizer could make a form of this model. "
        + " ".join(f"{name}: {failure.message}" for name, failure in failures),
        evidence="; ".join(failure.evidence for _, failure in failures if failure.evidence)[-2000:],
        suggested_fix=" ".join(fixes) or "Choose another scheme or runtime.",
    )
