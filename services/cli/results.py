"""Results of tasks as tables, with one function per kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

from services.cli.output import Column, note, plain, print_rows
from services.cli.profile_tables import show_profile
from services.cli.verdicts import asked_for, parities
from services.cli.views import FEW_WORDS, colored, enum_name, short, size

TOP_NODES = 10
TOP_REGRESSIONS = 10
BY_CLASS = ("precision/", "recall/", "f1/", "ap/")
"""Prefixes of figures of single classes, which tables leave out."""
# Rows of component, parity report, output.
PARITY: list[Column[Any]] = [
    Column("output", lambda row: plain(f"{row[0]}: {row[2].output}" if row[0] else row[2].output)),
    Column("max rel", lambda row: f"{row[2].max_rel_error:.1e}", numeric=True),
    Column("asked for", lambda row: asked_for(row[1])),
    Column("cosine", lambda row: f"{row[2].cosine:.6f}", numeric=True),
    Column("SQNR dB", lambda row: f"{row[2].sqnr_db:.1f}", numeric=True),
    Column("top-1", lambda row: f"{row[2].top1_agreement:.1%}" if row[2].HasField("top1_agreement") else "–"),
    Column("verdict", lambda row: colored(enum_name(row[2], "verdict"))),
]
LATENCY: list[Column[Any]] = [
    Column("form", lambda row: plain(f"{row[0]}: {row[1].form}" if row[0] else row[1].form)),
    Column("median ms", lambda row: f"{row[1].median_ms:.3f}", numeric=True),
    Column("p99 ms", lambda row: f"{row[1].p99_ms:.3f}", numeric=True),
    Column("speed-up", lambda row: f"{row[1].speedup:.2f}×", numeric=True),
    Column("95 % interval", lambda row: f"{row[1].speedup_low:.2f}–{row[1].speedup_high:.2f}", numeric=True),
]
CANDIDATES: list[Column[Any]] = [
    Column("quantizer", lambda each: plain(each.quantizer)),
    Column("cosine", lambda each: f"{each.cosine:.5f}" if each.cosine else "–", numeric=True),
    Column("SQNR dB", lambda each: f"{each.sqnr_db:.1f}" if each.cosine else "–", numeric=True),
    Column("accuracy", lambda each: f"{each.accuracy:.4f}" if each.HasField("accuracy") else "–", numeric=True),
    Column("median ms", lambda each: f"{each.median_ms:.3f}" if each.median_ms else "–", numeric=True),
    Column("size", lambda each: size(each.size_bytes) if each.size_bytes else "–", numeric=True),
    Column("", lambda each: "[green]chosen[/]" if each.chosen else plain(each.reason)),
]


def standing(candidate: Any) -> str:
    """Return the outcome of a form in a search, with the reason."""
    if candidate.recommended:
        return "[green]recommended[/]"
    if candidate.HasField("failure"):
        why = f"{enum_name(candidate.failure, 'reason')}: {candidate.failure.message}"
        return f"[red]{plain(shorten(why, FEW_WORDS, placeholder=' …'))}[/]"
    return plain(candidate.note) or ("nothing beats it in all" if candidate.pareto else "")


FORMS: list[Column[Any]] = [
    Column("form", lambda each: plain(each.form)),
    Column("parity", lambda each: colored(enum_name(each.parity, "verdict")) or "–"),
    Column("accuracy", lambda each: f"{each.accuracy:.4f}" if each.HasField("accuracy") else "–", numeric=True),
    Column("median ms", lambda each: f"{each.latency.median_ms:.3f}" if each.latency.median_ms else "–", numeric=True),
    Column("speed-up", lambda each: f"{each.latency.speedup:.2f}×" if each.latency.speedup else "–", numeric=True),
    Column(
        "samples/s", lambda each: f"{each.samples_per_second:.1f}" if each.samples_per_second else "–", numeric=True
    ),
    Column("size", lambda each: size(each.size_bytes) if each.size_bytes else "–", numeric=True),
    Column("memory", lambda each: size(each.memory_bytes) if each.memory_bytes else "–", numeric=True, detail=True),
    Column("", standing),
]
SENSITIVITIES: list[Column[Any]] = [
    Column("node", lambda each: plain(each.node)),
    Column("operator", lambda each: plain(each.operator)),
    Column("SQNR dB", lambda each: f"{each.sqnr_db:.1f}", numeric=True),
]
LADDER: list[Column[Any]] = [
    Column("nodes in floating point", lambda rung: str(len(rung.floating_point_nodes)), numeric=True),
    Column("accuracy", lambda rung: f"{rung.accuracy:.4f}", numeric=True),
    Column("median ms", lambda rung: f"{rung.median_ms:.3f}" if rung.median_ms else "–", numeric=True),
]
METRICS: list[Column[Any]] = [
    Column("metric", lambda metric: plain(metric.name)),
    Column("slice", lambda metric: plain(metric.slice)),
    Column("value", lambda metric: f"{metric.value:.4f}", numeric=True),
    # An imported figure may have none.
    Column(
        "95 % interval",
        lambda metric: f"{metric.low:.4f}–{metric.high:.4f}" if metric.low or metric.high else "–",
        numeric=True,
    ),
]
DELTAS: list[Column[Any]] = [
    Column("evaluation", lambda each: plain(each.task.partition("/")[2]), detail=True),
    Column("metric", lambda each: plain(each.delta.name)),
    Column("slice", lambda each: plain(each.delta.slice)),
    Column("difference", lambda each: f"{each.delta.value:+.4f}", numeric=True),
    Column("95 % interval", lambda each: f"{each.delta.low:+.4f}…{each.delta.high:+.4f}", numeric=True),
]
REGRESSIONS: list[Column[Any]] = [
    Column("evaluation", lambda each: plain(each.task.partition("/")[2]), detail=True),
    Column("sample", lambda each: plain(each.sample)),
    Column("worse by", lambda each: f"{each.loss:.4f}", numeric=True),
]


def show_result(task: Any) -> None:
    """Print the tables of a task that SUCCEEDED."""
    tables = {
        "conversionTasks": _conversion,
        "quantizationTasks": _quantization,
        "optimizationTasks": _optimization,
        "evaluationTasks": _evaluation,
        "profileTasks": show_profile,
    }
    tables[task.name.partition("/")[0]](task.result)
    if task.origin.cache_hit:
        hidden = task.origin.cache_hit.endswith("/-")
        who = "a task of another project" if hidden else task.origin.cache_hit
        note(f"The result is from the cache: {who} did the same work.")
    if "model_version" in task.result.DESCRIPTOR.fields_by_name and task.result.model_version:
        note(f"{task.name} made {short(task.result.model_version)}", style="green")


def show_comparison(comparison: Any, limit: int) -> None:
    """Print at most `limit` differences, significant ones first, and the samples that got worse most."""
    told = sorted(comparison.deltas, key=lambda each: each.delta.low <= 0 <= each.delta.high)
    title = "Differences from the first evaluation, sample by sample"
    print_rows(told[:limit], DELTAS, title=title, empty="The evaluations have no common figures.")
    if len(told) > limit:
        note(f"{len(told) - limit} more differences are in the report.")
    if comparison.regressions:
        print_rows(comparison.regressions[:TOP_REGRESSIONS], REGRESSIONS, title="Samples that got worse most")
    note(f"{comparison.samples} samples, {comparison.agreement:.2%} agreement; {comparison.name}")


def _conversion(result: Any) -> None:
    _show_parity(result)
    for each in result.components:
        _show_profile(each.component, each.profile)
    for each in result.components:
        _show_warnings([f"{each.component}: {words}" for words in each.warnings])


def _quantization(result: Any) -> None:
    print_rows(result.candidates, CANDIDATES, title="Quantizers tried")
    if result.ladder:
        print_rows(result.ladder, LADDER, title="Accuracy control")
    if result.sensitivities:
        print_rows(result.sensitivities[:TOP_NODES], SENSITIVITIES, title="Most sensitive nodes")
    _show_parity(result)
    _show_profile("", result.profile)
    note(f"weights: {size(result.source_size_bytes)} → {size(result.size_bytes)}")
    if result.coverage.products:
        made = result.coverage
        share = f", {made.quantized_weights / made.weights:.0%} of their weights" if made.weights else ""
        note(f"in integers: {made.quantized_products} of {made.products} products{share}")
    if result.HasField("source_accuracy") and result.HasField("accuracy"):
        note(f"{result.metric}: {result.source_accuracy:.4f} → {result.accuracy:.4f}")
    if result.HasField("bound_held"):
        note("the accuracy bound is met" if result.bound_held else "the accuracy bound is NOT met", style="bold")
    if result.no_gain_reason:
        note(result.no_gain_reason, style="yellow")
    _show_warnings(result.warnings)


def _optimization(result: Any) -> None:
    print_rows(
        result.candidates,
        FORMS,
        title="Measured forms, compared with the source",
        empty="No form was tried.",
    )
    _show_parity(result)
    _show_profile("", result.profile)
    found = result.optimization_result
    note(
        f"source {found.baseline_time_ms:.3f} ms, {found.baseline_qps:.1f} calls/s → {found.optimized_time_ms:.3f} ms, "
        f"{found.optimized_qps:.1f} calls/s: {found.speedup:.2f}×",
        style="bold",
    )
    if result.HasField("source_accuracy"):
        chosen = next((each for each in result.candidates if each.recommended and each.HasField("accuracy")), None)
        after = f" → {chosen.accuracy:.4f}" if chosen is not None else ""
        note(f"{result.metric}: {result.source_accuracy:.4f}{after}")
    if result.no_gain:
        note(f"no gain: {result.no_gain_reason or 'no form beats the source by more than noise'}", style="yellow")
    _show_warnings(result.warnings)


def _evaluation(result: Any) -> None:
    print_rows(
        [
            each
            for each in result.metrics
            if not each.name.startswith(BY_CLASS) and (not each.slice or each.name == result.main_metric)
        ],
        METRICS,
        title=f"{result.samples} samples",
        empty="Nothing could be evaluated, because the data has no annotations.",
    )
    if result.HasField("imported"):
        note(f"imported by {result.imported.owner}, from: {result.imported.source}")
    if result.HasField("times"):
        _show_times(result.times, result.hardware)
    _show_warnings(result.warnings)


def _show_times(times: Any, hardware: str) -> None:
    note(
        f"per sample: {times.total_ms:.3f} ms = {times.preprocess_ms:.3f} before + {times.inference_ms:.3f} model + "
        f"{times.postprocess_ms:.3f} after"
    )
    note(
        f"latency p50 {times.latency.median_ms:.3f}, p99 {times.latency.p99_ms:.3f} ms; "
        f"{times.throughput:.0f} samples/s; {size(times.peak_memory_bytes)} on {hardware}"
    )


def _show_parity(result: Any) -> None:
    found = parities(result)
    rows = [(component, report, output) for component, report in found for output in report.outputs]
    if rows:
        print_rows(rows, PARITY, title="Parity")
    for component, report in found:
        verdict = enum_name(report, "verdict")
        of = f"{component}: " if component else ""
        if verdict == "UNVERIFIED":
            note(f"{of}UNVERIFIED: nobody has seen this form compute. Missing: {report.missing}.", style="bold magenta")
        elif verdict in ("WARN", "FAIL"):
            accepted = f"accepted: {report.waiver}" if report.waiver else "to promote it, accept the verdict"
            note(f"{of}the parity verdict is {verdict}; {accepted}", style="yellow")


def _show_profile(component: str, profile: Any) -> None:
    if not profile.forms:
        return
    print_rows([(component, form) for form in profile.forms], LATENCY, title="Latency, paired and interleaved")
    of, control = f"{component}: " if component else "", profile.control
    note(
        f"{of}batch {profile.batch_size}, {profile.threads} threads, {profile.rounds} rounds on {profile.hardware}; "
        f"the baseline against itself: {control.speedup:.2f}× ({control.speedup_low:.2f}–{control.speedup_high:.2f})"
    )
    for form, words in sorted(profile.conclusions.items()):
        note(f"{of}{form} is {words}")


def _show_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        note(f"warning: {warning}", style="yellow")
