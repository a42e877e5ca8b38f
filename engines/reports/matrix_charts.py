"""Charts of intervals, confusion matrices and the ladder of accuracy control. See `charts.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from engines.reports.svg import FONT_SIZE, canvas, inline
from engines.reports.text import SPACE, clean, shorten
from engines.reports.theme import stand_in

_NAME_LENGTH = 26
_ROW_HEIGHT = 21
_FRAME_HEIGHT = 46
MOST_INTERVALS = 40
MOST_CLASSES = 40
"""Most classes of a confusion matrix that is readable as a chart."""
_NUMBERED_CLASSES = 16


@dataclass(frozen=True)
class Interval:
    """A value with its interval. `role` is a colour of the theme, `detail` is added to the tooltip."""

    name: str
    value: float
    low: float
    high: float
    role: str = "accent"
    detail: str = ""


@dataclass(frozen=True)
class Step:
    """A step of accuracy control: nodes kept in floating point, the metric, the median latency in milliseconds."""

    kept: int
    accuracy: float
    median_ms: float


def intervals(
    key: str,
    label: str,
    rows: Sequence[Interval],
    x_label: str,
    show: Callable[[float], str],
    *,
    center: float | None = None,
    tick: Callable[[float], str] | None = None,
    most: float | None = None,
) -> Markup:
    """Draw at most `MOST_INTERVALS` values as dots with intervals, the first on top, and a line at `center`.

    `show` formats a value, `tick` one at the axis (`show` if None). The axis ends at `most` if an interval exceeds it.
    """
    shown = rows[:MOST_INTERVALS]
    with canvas(_FRAME_HEIGHT + max(80, _ROW_HEIGHT * len(shown))) as figure:
        axes = figure.add_subplot()
        if center is not None:
            axes.axvline(center, color=stand_in("muted"), linewidth=1.2)
        tips = {}
        for place, row in enumerate(shown):
            color = stand_in(row.role)
            axes.plot([row.low, row.high], [place, place], color=color, linewidth=2.2, solid_capstyle="round")
            axes.plot([row.value], [place], "o", color=color, markersize=6.5, gid=f"row-{place}")
            tips[f"row-{place}"] = f"{row.name}: {show(row.value)} ({show(row.low)} to {show(row.high)}){row.detail}"
        axes.set_yticks(range(len(shown)), [_name(row.name) for row in shown])
        axes.set_ylim(max(1, len(shown)) - 0.4, -0.6)
        axes.tick_params(axis="y", labelcolor=stand_in("ink"))
        axes.set_xlabel(x_label)
        axes.margins(x=0.06)
        if all(row.low == row.high for row in shown) and shown:
            axes.margins(x=0.5)
        if most is not None and any(row.high > most for row in shown):
            least = min([row.low for row in shown] + [center or 0.0])
            axes.set_xlim(least - 0.04 * (most - least), most)
        axes.xaxis.set_major_locator(_few_ticks())
        axes.xaxis.set_major_formatter(lambda value, _: (tick or show)(value))
        axes.grid(visible=True, axis="x")
        axes.spines["left"].set_visible(False)
        return inline(figure, key, label, tips)


def confusion(key: str, label: str, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Draw a confusion matrix: rows are true classes, columns predicted ones, the shade is the share of the row.

    Right predictions have the accent colour, wrong ones the colour of errors; empty cells are left out.

    Raises:
        ValueError: If there are more than `MOST_CLASSES` classes, for which a table of pairs is clearer.
    """
    side = len(classes)
    if side > MOST_CLASSES:
        raise ValueError(f"{side} classes are more than {MOST_CLASSES}")
    with canvas(min(400, 200 + 36 * side)) as figure:
        axes = figure.add_subplot(aspect="equal")
        tips = {}
        for true, row in enumerate(counts):
            for predicted, count in enumerate(row):
                if count:
                    gid = f"cell-{true}-{predicted}"
                    _cell(axes, (true, predicted), count, sum(row), gid, numbered=side <= _NUMBERED_CLASSES)
                    tips[gid] = f"{classes[true]} → {classes[predicted]}: {count:,} of {sum(row):,}"
        names = [shorten(clean(name).replace("\n", " "), 14) for name in classes]
        small = FONT_SIZE - 1 if side <= 20 else FONT_SIZE - 4
        axes.set_xticks(range(side), names, rotation=0 if _short(names) else 90, fontsize=small)
        axes.set_yticks(range(side), names, fontsize=small)
        end = max(side, 1) - 0.5
        axes.set(xlim=(-0.5, end), ylim=(end, -0.5), xlabel="predicted", ylabel="true")
        for spine in axes.spines.values():
            spine.set_visible(True)
        return inline(figure, key, label, tips)


def _cell(axes: Any, place: tuple[int, int], count: int, total: int, gid: str, *, numbered: bool) -> None:
    from matplotlib.patches import Rectangle

    true, predicted = place
    share = count / total
    right = true == predicted
    shade = 0.10 + 0.90 * share
    corner = (predicted - 0.48, true - 0.48)
    axes.add_patch(
        Rectangle(corner, 0.96, 0.96, color=stand_in("accent" if right else "bad"), alpha=shade, linewidth=0, gid=gid)
    )
    if numbered:
        color = stand_in("on-accent" if shade > 0.6 else "ink")
        written = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
        axes.text(predicted, true, written, ha="center", va="center", color=color, fontsize=FONT_SIZE - 2)


def _short(names: Sequence[str]) -> bool:
    return sum(len(name) for name in names) <= 44


def ladder(key: str, label: str, steps: Sequence[Step], metric: str, bound: float | None) -> Markup:
    """Draw the effect of nodes kept in floating point: the metric above, latency below, and the bound as a line."""
    kept = [step.kept for step in steps]
    with canvas(340) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(kept, [step.accuracy for step in steps], "o-", color=stand_in("accent"), linewidth=1.8, markersize=6)
        if bound is not None:
            above.axhline(bound, color=stand_in("bad"), linewidth=1.2, linestyle=(0, (4, 3)))
            note = {"color": stand_in("bad"), "fontsize": FONT_SIZE - 1, "ha": "left", "va": "bottom"}
            above.text(0.01, bound, "bound", transform=above.get_yaxis_transform(), **note)
        below.plot(
            kept, [step.median_ms for step in steps], "o-", color=stand_in("series-3"), linewidth=1.8, markersize=6
        )
        above.set_ylabel(clean(metric))
        above.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}{SPACE}%")
        below.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}{SPACE}ms")
        below.set(ylabel="median latency", xlabel="nodes kept in floating point")
        below.set_ylim(bottom=0, top=max((step.median_ms for step in steps), default=1) * 1.15 or 1)
        below.xaxis.get_major_locator().set_params(integer=True)
        for axes in (above, below):
            axes.grid(visible=True)
            axes.margins(x=0.04, y=0.2)
            axes.yaxis.get_major_locator().set_params(nbins=4)
        tips: dict[str, str] = {}
        return inline(figure, key, label, tips)


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5)


def _name(name: str) -> str:
    return shorten(clean(name).replace("\n", " "), _NAME_LENGTH)
