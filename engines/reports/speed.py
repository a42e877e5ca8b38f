"""Latencies of a search, as the pages of quantizations and optimizations show them: side by side, and as plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engines.reports import charts, matrix_charts, text
from engines.reports.charts import Point
from engines.reports.matrix_charts import Interval
from engines.reports.page import Cell, Chart, Section, Table
from engines.reports.text import as_number

CONTROL = "A/A control"
_MOST_SPREAD = 2.5
"""End of the axis, in multiples of the largest speed-up: the wide interval of a disturbed form hides no other."""


def interval(name: str, form: Mapping[str, Any], role: str) -> Interval:
    """Return a form's speed-up with its interval."""
    value, low, high = (as_number(form.get(key)) for key in ("speedup", "speedup_low", "speedup_high"))
    return Interval(name, value, low, high, role)


def latency_plot(key: str, points: Sequence[Point], label: str, title: str, note: str) -> Chart:
    """Return a plot of latency against another figure.

    Args:
        key: Name of the chart on its page.
        points: The forms, by latency in milliseconds and by the other figure.
        label: Name of the other figure.
        title: Title of the chart.
        note: How to read it.
    """
    words = "; ".join(f"{point.name}: {text.number(point.x)} ms, {text.number(point.y, 4)}" for point in points)
    chart = charts.scatter(key, f"Latency against {label}. {words}", list(points), "median latency, ms", label)
    return Chart(chart, title, note)


def latency_section(result: Mapping[str, Any], shown: Sequence[Interval]) -> Iterator[Section]:
    """Yield the paired measurement of a result beside its A/A control; nothing if there is none."""
    profile = result.get("profile") or {}
    if profile.get("forms") and profile.get("control"):
        yield _speed_section(profile, shown)


def _speed_section(profile: Mapping[str, Any], shown: Sequence[Interval]) -> Section:
    """Return the section of a paired measurement.

    Args:
        profile: A `lathe.type.v1.ProfileReport`: forms, the source first, and its control.
        shown: The speed-ups of the forms to draw; the control's is drawn below them.
    """
    base, control = profile["forms"][0], profile["control"]
    rows = [*shown, interval(CONTROL, control, "muted")]
    words = "; ".join(f"{row.name}: {row.value:.2f}, {row.low:.2f} to {row.high:.2f}" for row in rows)
    chart = matrix_charts.intervals(
        "speedup",
        f"Speed-up over {base['form']} with 95 % intervals. {words}",
        rows,
        "times as fast as the source",
        lambda value: f"{value:.2f}×",
        center=1.0,
        most=_MOST_SPREAD * max(1.0, *(row.value for row in rows)),
    )
    threads = text.count(int(as_number(profile.get("threads", 0))), "thread")
    setting = (
        f"Batch of {as_number(profile.get('batch_size')):.0f}, {threads}, "
        f"{as_number(profile.get('rounds')):.0f} interleaved rounds on {profile.get('hardware') or 'this machine'}."
    )
    note = "An interval that is entirely to the right of the control's is a win; one that overlaps it is not."
    return Section(
        "Speed", [Chart(chart, "Speed-up over the source, with 95 % intervals", note), _table(profile)], setting
    )


def _table(profile: Mapping[str, Any]) -> Table:
    base, *others = profile["forms"]
    conclusions = profile.get("conclusions", {})
    named = [(str(form["form"]), form, str(conclusions.get(form["form"], ""))) for form in others]
    entries = [(str(base["form"]), base, "the source"), *named, (CONTROL, profile["control"], "")]
    rows: list[list[str | Cell]] = [
        [
            Cell(name, detail=detail),
            *(text.milliseconds(as_number(form.get(key))) for key in ("median_ms", "p90_ms", "p99_ms")),
            "1" if form is base else f"{as_number(form.get('speedup')):.2f}×",
        ]
        for name, form, detail in entries
    ]
    return Table("Latency side by side", ["form", "p50", "p90", "p99", "speed-up"], rows)
