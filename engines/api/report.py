"""The report that `optimize()` returns: a mapping with the fields users know, which shows itself well."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from engines.reports import text
from engines.reports.optimization_values import (
    baseline_name,
    cosine,
    median_ms,
    outcome,
    recommended,
    size_bytes,
    size_in_words,
)

COLUMNS = ("form", "latency", "speed-up", "cosine", "size", "outcome")


class OptimizationReport(Mapping[str, Any]):
    """The result of a search: `report["optimization_result"]["speedup"]`, and every other field of the result.

    Attributes:
        html: The whole report as one self-contained page.
    """

    def __init__(self, result: Mapping[str, Any], html: str) -> None:
        self._result = dict(result)
        self.html = html

    def __getitem__(self, key: str) -> Any:
        """Return a field of the result."""
        return self._result[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the fields."""
        return iter(self._result)

    def __len__(self) -> int:
        """Return the number of fields."""
        return len(self._result)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return dict(self._result)

    def save(self, path: str | Path) -> None:
        """Write the page to a file."""
        Path(path).write_text(self.html, encoding="utf-8", newline="\n")

    @property
    def speedup(self) -> float:
        """How many times as fast as the source the recommended form is; 1 if there is no gain."""
        return float(self._result["optimization_result"]["speedup"])

    @property
    def summary(self) -> str:
        """The result in a sentence."""
        figures = self._result["optimization_result"]
        if self._result.get("no_gain"):
            return f"No gain: {self._result.get('no_gain_reason', '')}".strip()
        before, after = (text.milliseconds(figures[key]) for key in ("baseline_time_ms", "optimized_time_ms"))
        best = recommended(self._result)
        form = best["form"] if best else "the recommended form"
        words = f"{form}: {self.speedup:.2f}x as fast as the source, {after} instead of {before}"
        smaller = size_in_words(self._result) if self.speedup < 1 else ""  # then size was the aim
        return f"{words}. {smaller}" if smaller else words

    def rows(self) -> list[tuple[str, ...]]:
        """Return every candidate as a row of text: form, latency, speed-up, cosine, size, outcome.

        The outcome says why a candidate failed; the HTML page also says why others were left out.
        """
        base = baseline_name(self._result)
        return [_row(entry, base) for entry in self._result.get("candidates", [])]

    def __repr__(self) -> str:
        """Say what was found, in a line."""
        return f"<OptimizationReport: {self.summary}>"

    def __str__(self) -> str:
        """Return the summary and a table of every candidate."""
        rows = [COLUMNS, *self.rows()]
        widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS) - 1)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]
        return "\n".join([self.summary, "", *lines])

    def _repr_html_(self) -> str:
        """Return the summary and the table for a notebook."""
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        best = recommended(self._result)
        body = ""
        for entry, row in zip(self._result.get("candidates", []), self.rows(), strict=True):
            cells = "".join(f"<td>{escape(text.clean(cell))}</td>" for cell in row)
            strong = ' style="font-weight: bold"' if entry is best else ""
            body += f"<tr{strong}>{cells}</tr>"
        summary = escape(text.clean(self.summary))
        return f"<p>{summary}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(entry: Mapping[str, Any], base: str) -> tuple[str, ...]:
    latency, (word, why) = entry.get("latency") or {}, outcome(entry, base)
    size = size_bytes(entry)
    return (
        str(entry.get("form", "")),
        text.milliseconds(median_ms(entry)),
        f"{float(latency['speedup']):.2f}x" if latency.get("speedup") else text.NONE,
        text.number(cosine(entry), 5),
        text.NONE if math.isnan(size) else text.size(size),
        f"{word}: {why}" if word == "failed" or not latency else word,
    )
