"""How outputs compare with the source's, on every page that shows a form: the verdict, what it was held to, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engines.parity.report import Verdict, tolerance_of
from engines.reports import text
from engines.reports.page import Cell, Section, Table, Tone
from engines.reports.text import as_number
from engines.tensors.samples import SampleSource

VERDICT_TONES: dict[str, Tone] = {"PASS": "good", "WARN": "warn", "UNVERIFIED": "bad", "FAIL": "bad"}
_FIGURES = ("max_rel_error", "max_abs_error")


def verdict_note(parity: Mapping[str, Any]) -> tuple[str, Tone]:
    """Return a sentence on a verdict other than PASS, and its tone; an empty one for PASS or none."""
    verdict = str(parity.get("verdict", ""))
    if verdict not in ("WARN", "UNVERIFIED", "FAIL"):
        return "", "good"
    if verdict == Verdict.UNVERIFIED:
        return f"UNVERIFIED: nobody has seen this form compute. Missing: {parity['missing']}.", VERDICT_TONES[verdict]
    waiver = f", accepted: {parity['waiver']}" if parity.get("waiver") else ""
    return f"The parity verdict is {verdict}{waiver}.", VERDICT_TONES[verdict]


def parity_section(parity: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the outputs of a `ParityReport` in its JSON form; nothing if there are none."""
    outputs = parity.get("outputs")
    if not outputs:
        return
    ranked = any(output.get("top1_agreement") is not None for output in outputs)
    rows: list[list[str | Cell]] = [
        [
            str(output.get("output", "")),
            text.number(as_number(output.get("cosine")), 5),
            *(text.number(as_number(output.get(key)), 4) for key in _FIGURES),
            f"{text.number(as_number(output.get('sqnr_db')))}{text.SPACE}dB",
            *[text.percent(_part(output.get("top1_agreement")))] * ranked,
            _verdict_cell(output),
        ]
        for output in outputs
    ]
    columns = ["output", "cosine", "relative error", "largest error", "SQNR", *["same top-1"] * ranked, "verdict"]
    yield Section("Parity with the source", [Table("Outputs", columns, rows, wide=True)], _intro(parity))


def _verdict_cell(output: Mapping[str, Any]) -> Cell:
    verdict = str(output.get("verdict", ""))
    return Cell(verdict, VERDICT_TONES.get(verdict, ""), str(output.get("remark", "")))


def _intro(parity: Mapping[str, Any]) -> str:
    source = SampleSource(parity["sample_source"]).words if "sample_source" in parity else ""
    values = ", ".join(map(str, parity.get("sample_values", ())))
    of = f"{source} ({values})" if values else source
    asked = f" Required: {tolerance_of(parity)}." if parity.get("measure") else ""
    on = f" on {parity['verified_on']}" if parity.get("verified_on") else ""
    return f"Over {text.count(int(as_number(parity.get('samples', 0))), 'sample')}, {of}{on}.{asked}"


def _part(value: Any) -> float | None:
    return None if value is None else as_number(value)
