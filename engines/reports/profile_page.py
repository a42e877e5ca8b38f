"""The report of a profile as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from engines.reports import charts, text
from engines.reports.charts import Bar
from engines.reports.page import Block, Cell, Chart, Facts, Notes, Page, Section, Table, Tile, render
from engines.reports.text import as_number

Row = Mapping[str, Any]
_MOST_LAYERS = 60
_MOST_OPERATORS = 12


def profile_html(result: Mapping[str, Any], *, title: str = "Profile") -> str:
    """Return the report of a profile as one self-contained HTML file.

    Args:
        result: Fields of `lathe.optimizer.v1.ProfileResult`, named as in the proto; numbers may be JSON strings.
        title: Name of the model.
    """
    ran = [row for row in result.get("measurements", []) if row.get("latency")]
    return render(
        Page(
            kind="Profile",
            title=title,
            subtitle=f"{result.get('device', '')}, measured on {result.get('hardware') or 'this machine'}",
            verdict=_verdict(ran),
            tiles=_tiles(ran),
            sections=list(_sections(result, ran)),
            small_print=_small_print(),
        )
    )


def _verdict(ran: Sequence[Row]) -> str:
    if not ran:
        return "No form ran."
    fast, busy = _fastest(ran), _busiest(ran)
    words = f"Fastest: {_name(fast, ran)}, {text.milliseconds(_median(fast))} for a call."
    if busy is not fast:
        words += f" Most samples per second: {_name(busy, ran)}, {text.number(_rate(busy), 4)}."
    return words


def _tiles(ran: Sequence[Row]) -> list[Tile]:
    if not ran:
        return []
    fast, busy = _fastest(ran), _busiest(ran)
    small = min(ran, key=lambda row: as_number(row.get("memory_bytes")))
    return [
        Tile("Latency, p50", text.milliseconds(_median(fast)), _name(fast, ran), "good"),
        Tile("Latency, p99", text.milliseconds(as_number(fast["latency"].get("p99_ms"))), "of the same form"),
        Tile("Samples per second", text.number(_rate(busy), 4), _name(busy, ran)),
        Tile("Least memory", text.size(as_number(small.get("memory_bytes"))), _name(small, ran)),
        Tile("Load time", text.milliseconds(as_number(fast.get("load_time_ms"))), "of the fastest form"),
    ]


def _sections(result: Mapping[str, Any], ran: Sequence[Row]) -> Iterator[Section]:
    if result.get("warnings"):
        yield Section("Warnings", [Notes([str(line) for line in result["warnings"]], "warn")])
    rows = result.get("measurements", [])
    yield Section("Measurements", [*_charts(ran), _table(rows), *_failures(rows)], _control_words(result))
    for number, (key, layers) in enumerate(_by_form(result.get("layers", [])).items()):
        yield _layer_section(f"{number}", key, layers)
    programs = [(str(entry["name"]), str(entry["version"])) for entry in result.get("software", [])]
    data = dict.fromkeys(str(row.get("input_shapes", "")) for row in ran)
    inputs = [(f"inputs {number}", shapes) for number, shapes in enumerate(data, start=1)]
    yield Section("Conditions", [Facts("Inputs", inputs, wide=True), Facts("Software", programs, wide=True)])


def _charts(ran: Sequence[Row]) -> list[Block]:
    if len(ran) < 2:
        return []
    places = {id(row): f"#{number} {row.get('runtime', '')}" for number, row in enumerate(ran, start=1)}
    times = [
        Bar(places[id(row)], _median(row), f"{_name(row, ran)}: {text.milliseconds(_median(row))}")
        for row in sorted(ran, key=_median)
    ]
    rates = [
        Bar(places[id(row)], _rate(row), f"{_name(row, ran)}: {text.number(_rate(row), 4)}")
        for row in sorted(ran, key=_rate, reverse=True)
    ]
    return [
        _chart(
            *("latency", times, "median of a call, ms", text.milliseconds),
            title="Latency of a call",
            note="Shorter is better; numbers are those of the table.",
        ),
        _chart(
            *("rate", rates, "samples per second", _amount),
            title="Throughput at full load",
            note="Longer is better; numbers are those of the table.",
        ),
    ]


def _chart(
    key: str, shown: Sequence[Bar], label: str, show: Callable[[float], str], *, title: str, note: str = ""
) -> Chart:
    words = "; ".join(bar.tip for bar in shown)
    svg = charts.bars(key, f"{title}. {words}", shown, label, show, tick=lambda value: f"{value:,g}")
    return Chart(svg, title, note)


def _amount(value: float) -> str:
    return text.number(value, 4)


def _table(rows: Sequence[Row]) -> Table:
    several = len({row.get("component") for row in rows}) > 1
    columns = (
        ["#"] + ["component"] * several + ["runtime", "batch", "threads", "streams", "p50", "p90", "p99", "samples/s"]
    )
    columns += ["memory", "size", "load", "first call"]
    measured = [row for row in rows if row.get("latency")]
    cells: list[list[str | Cell]] = []
    for number, row in enumerate(measured, start=1):
        latency = row["latency"]
        cells.append(
            [
                str(number),
                *([str(row.get("component", ""))] if several else []),
                Cell(str(row.get("runtime", "")), detail=str(row.get("precision", ""))),
                *(f"{as_number(row.get(key, 0)):.0f}" for key in ("batch_size", "threads", "streams")),
                Cell(text.milliseconds(_median(row)), detail=_against(latency)),
                *(text.milliseconds(as_number(latency.get(key))) for key in ("p90_ms", "p99_ms")),
                text.number(_rate(row), 4),
                *(text.size(as_number(row.get(key))) for key in ("memory_bytes", "size_bytes")),
                *(text.milliseconds(as_number(row.get(key))) for key in ("load_time_ms", "first_call_ms")),
            ]
        )
    return Table("Every form that was measured", columns, cells, frozenset(range(1, 2 + several)), wide=True)


def _against(latency: Mapping[str, Any]) -> str:
    speedup = as_number(latency.get("speedup"))
    return "" if speedup == 1 else f"{speedup:.2f}× the first form"


def _failures(rows: Sequence[Row]) -> Iterator[Notes]:
    """Yield why forms were not measured, each reason once."""
    reasons: dict[str, None] = {}
    for row in rows:
        if row.get("failure"):
            reasons[f"{row.get('runtime')}: {row['failure'].get('message', '')}"] = None
    if reasons:
        yield Notes(list(reasons), "warn")


def _control_words(result: Mapping[str, Any]) -> str:
    words = []
    for control in result.get("controls", []):
        latency = control["latency"]
        low, high = as_number(latency.get("speedup_low")), as_number(latency.get("speedup_high"))
        words.append(
            f"At batch {as_number(control.get('batch_size')):.0f} the first form was measured twice, in "
            f"{as_number(control.get('rounds')):.0f} rounds: {low:.2f} to {high:.2f} times as fast as itself, which is "
            "the noise here."
        )
    return " ".join(dict.fromkeys(words))


def _by_form(layers: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    several = len({row.get("component") for row in layers}) > 1
    for row in layers:
        streams = as_number(row.get("streams", 1))
        name = f"{row['component']}: {row['runtime']}" if several else str(row["runtime"])
        threads = text.count(int(as_number(row.get("threads"))), "thread")
        name += f", batch {as_number(row.get('batch_size')):.0f}, {threads}"
        found.setdefault(name + (f", {streams:.0f} streams" if streams > 1 else ""), []).append(row)
    return found


def _layer_section(key: str, name: str, layers: Sequence[Row]) -> Section:
    total = sum(as_number(row.get("time_ms")) for row in layers)
    operators: dict[str, float] = {}
    for row in layers:
        operators[str(row["operator"])] = operators.get(str(row["operator"]), 0.0) + as_number(row.get("time_ms"))
    top = sorted(operators.items(), key=lambda entry: -entry[1])[:_MOST_OPERATORS]
    bars = [
        Bar(kind, time, f"{kind}: {text.milliseconds(time)}, {text.percent(time / total if total else 0)}")
        for kind, time in top
    ]
    chart = _chart(f"operators-{key}", bars, "time in a call, ms", text.milliseconds, title="Time by kind")
    slowest = sorted(layers, key=lambda row: -as_number(row.get("time_ms")))[:_MOST_LAYERS]
    cells: list[list[str | Cell]] = [
        [
            Cell(text.shorten(str(row["name"]), 80), detail=str(row.get("kernel", ""))),
            str(row["operator"]),
            text.milliseconds(as_number(row.get("time_ms"))),
            text.percent(as_number(row.get("share"))),
        ]
        for row in slowest
    ]
    note = f"The slowest {_MOST_LAYERS} of {len(layers):,}; profile.json has all." if len(layers) > _MOST_LAYERS else ""
    table = Table("Layers, the slowest first", ["layer", "kind", "time", "share"], cells, frozenset({0, 1}), note)
    return Section(
        f"Layers: {name}", [chart, table], f"{text.count(len(layers), 'layer')}, {text.milliseconds(total)} together."
    )


def _small_print() -> list[str]:
    return [
        "Each form ran in a process of its own, one at a time, with the same inputs. Forms took turns in random order, "
        "so that other work of the machine meets all of them. Memory is the largest resident memory of the process, "
        "the framework included; load time leaves the import of the framework out.",
        "Layers are timed by the runtime's own profiler, whose cost is part of their times: their sum can exceed the "
        "latency of a call. A runtime that compiles layers into one names what it runs, not what the source had.",
    ]


def _name(row: Row, rows: Sequence[Row]) -> str:
    """Return a row in words: only what differs among the rows, after the runtime."""
    parts = [str(row.get("runtime", ""))]
    for key, words in (("batch_size", "batch {}"), ("threads", "{} threads"), ("streams", "{} streams")):
        if len({str(each.get(key)) for each in rows}) > 1:
            parts.append(words.format(row.get(key)))
    if len({each.get("component") for each in rows}) > 1:
        parts.insert(0, str(row.get("component")))
    return ", ".join(parts)


def _median(row: Row) -> float:
    return as_number(row["latency"].get("median_ms"))


def _rate(row: Row) -> float:
    return as_number(row.get("samples_per_second"))


def _fastest(rows: Sequence[Row]) -> Row:
    return min(rows, key=_median)


def _busiest(rows: Sequence[Row]) -> Row:
    return max(rows, key=_rate)
