"""Charts of curves and amounts as inline SVG: curves, bars, histograms, scatter plots.

Every function takes `key`, which must be unique in a page, and `label`, a description of the chart in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from engines.reports.svg import FONT_SIZE, canvas, inline
from engines.reports.text import clean, number, percent, shorten
from engines.reports.theme import SERIES, stand_in

_NAME_LENGTH = 24
_ROW_HEIGHT = 20
_FRAME_HEIGHT = 46
MOST_CURVES = len(SERIES)
MOST_BARS = 40


@dataclass(frozen=True)
class Curve:
    """A line: its points, and its name in the legend. A `strong` one is drawn over the others."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    strong: bool = False


@dataclass(frozen=True)
class Bar:
    """A fraction or an amount, with the text of its tooltip. `role` is a colour of the theme."""

    name: str
    value: float
    tip: str = ""
    role: str = "accent"


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot, with its label `mark` and its `name` in the tooltip; the chosen one is `strong`.

    `role` is a colour of the theme; if empty, the strong point has the accent colour.
    """

    name: str
    x: float
    y: float
    strong: bool = False
    mark: str = ""
    role: str = ""


def curves(key: str, label: str, lines: Sequence[Curve], x_label: str, y_label: str) -> Markup:
    """Draw at most `MOST_CURVES` lines over the unit square, their names below."""
    shown = lines[:MOST_CURVES]
    rows = -(-len(shown) // 2)
    with canvas(250 + rows * 16) as figure:
        axes = figure.add_subplot()
        for position, line in enumerate(shown):
            color = stand_in("ink" if line.strong else SERIES[position])
            width, order = (2.4, 3) if line.strong else (1.6, 2)
            # A legend leaves out names that begin with an underscore.
            name = f"\u2060{_name(line.name)}" if line.name.startswith("_") else _name(line.name)
            axes.plot(line.x, line.y, color=color, linewidth=width, zorder=order, label=name, gid=f"line-{position}")
        axes.set(xlim=(0, 1.005), ylim=(0, 1.03), xlabel=x_label, ylabel=y_label)
        _per_cent(axes.xaxis)
        _per_cent(axes.yaxis)
        axes.grid(visible=True)
        if shown:
            figure.legend(loc="outside lower left", ncols=2, handlelength=1.4, columnspacing=1.5)
        return inline(figure, key, label, {f"line-{place}": line.name for place, line in enumerate(shown)})


def bars(
    key: str,
    label: str,
    entries: Sequence[Bar],
    x_label: str,
    show: Callable[[float], str],
    *,
    limit: float | None = None,
    tick: Callable[[float], str] | None = None,
) -> Markup:
    """Draw at most `MOST_BARS` horizontal bars, the first on top, each with its value.

    Args:
        key: Identifier of the chart.
        label: Description of the chart.
        entries: The bars.
        x_label: Label of the axis.
        show: Formats a value.
        limit: Right end of the axis; the largest value if None.
        tick: Formats a value at the axis; `show` if None.
    """
    shown = entries[:MOST_BARS]
    largest = limit or max((bar.value for bar in shown), default=0) or 1
    with canvas(_FRAME_HEIGHT + max(90, _ROW_HEIGHT * len(shown))) as figure:
        axes = figure.add_subplot()
        for row, bar in enumerate(shown):
            axes.barh(row, bar.value, height=min(0.66, 0.2 * len(shown)), color=stand_in(bar.role), gid=f"bar-{row}")
            axes.text(bar.value + largest * 0.012, row, show(bar.value), va="center", fontsize=FONT_SIZE - 1)
        _rows(axes, [bar.name for bar in shown])
        axes.set(xlim=(0, largest * 1.16), xlabel=x_label)
        axes.grid(visible=True, axis="x")
        axes.spines["left"].set_visible(True)
        places = [place for place in axes.get_xticks() if 0 <= place <= largest * 1.001]
        axes.set_xticks(places, [(tick or show)(place) for place in places])
        return inline(figure, key, label, {f"bar-{row}": bar.tip for row, bar in enumerate(shown)})


def histogram(
    key: str,
    label: str,
    edges: Sequence[float],
    counts: Sequence[int],
    x_label: str,
    *,
    marks: Sequence[tuple[str, float]],
) -> Markup:
    """Draw counts between edges, with a named line at each mark."""
    with canvas(230) as figure:
        axes = figure.add_subplot()
        for place, count in enumerate(counts):
            left, width = edges[place], edges[place + 1] - edges[place]
            axes.bar(left, count, width * 0.92, align="edge", color=stand_in("accent"), gid=f"bin-{place}")
        top = max(counts, default=0) or 1
        axes.set(ylim=(0, top * (1.06 + 0.1 * len(marks))), xlabel=x_label, ylabel="calls")
        span = (edges[-1] - edges[0]) or 1
        for place, (name, value) in enumerate(marks):
            height = top * (1.03 + 0.1 * (len(marks) - place))
            right = value > edges[0] + 0.6 * span
            axes.plot([value, value], [0, height], color=stand_in("ink"), linewidth=1, linestyle=(0, (3, 2)))
            shift = -0.012 * span if right else 0.012 * span
            axes.text(value + shift, height, name, ha="right" if right else "left", va="top", fontsize=FONT_SIZE - 1)
        axes.grid(visible=True, axis="y")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.margins(x=0.02)
        tips = {
            f"bin-{place}": f"{number(edges[place])} to {number(edges[place + 1])}: {count:,}"
            for place, count in enumerate(counts)
        }
        return inline(figure, key, label, tips)


def scatter(key: str, label: str, points: Sequence[Point], x_label: str, y_label: str) -> Markup:
    """Draw points with their marks; tooltips show names and values; the strong point is larger."""
    with canvas(270) as figure:
        axes = figure.add_subplot()
        for place, point in enumerate(points):
            color = stand_in(point.role or ("accent" if point.strong else "series-7"))
            area = 95 if point.strong else 48
            axes.scatter([point.x], [point.y], s=area, color=color, zorder=3, gid=f"point-{place}")
        for place, point in enumerate(sorted(points, key=lambda each: each.x)):
            above = place % 2 == 0  # alternating, so that marks of close points do not overlap
            axes.annotate(
                clean(point.mark),
                (point.x, point.y),
                xytext=(0, 8 if above else -8),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=FONT_SIZE - 1,
            )
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.ticklabel_format(useOffset=False)
        axes.margins(0.16)
        if points and len({point.y for point in points}) == 1:  # a single value has no range
            around = max(abs(points[0].y) * 0.005, 1e-6)
            axes.set_ylim(points[0].y - around, points[0].y + around)
        axes.grid(visible=True)
        tips = {
            f"point-{place}": f"{point.name}: {number(point.x, 4)} {x_label}, {number(point.y, 4)} {y_label}"
            for place, point in enumerate(points)
        }
        return inline(figure, key, label, tips)


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_name(name) for name in names])
    axes.set_ylim(max(1, len(names)) - 0.4, -0.6)
    axes.tick_params(axis="y", labelcolor=stand_in("ink"))


def _per_cent(axis: Any) -> None:
    axis.set_major_formatter(lambda value, _: percent(value, 0))


def _name(name: str) -> str:
    return shorten(clean(name).replace("\n", " "), _NAME_LENGTH)
