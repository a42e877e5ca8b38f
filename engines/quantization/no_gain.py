"""Explains from a profile why a quantized form is not faster than its source on this machine."""

from __future__ import annotations

from collections import Counter

from engines.failures import first_line
from engines.quantization.request import HALVES
from engines.runtimes import BuiltForm, runtime
from engines.runtimes.opened import products_saturate
from engines.tensors import Arrays
from engines.timing.paired import ProfileReport

SMALL_MS = 0.1
"""Latency under which the fixed cost of a call and of every node outweighs what arithmetic takes."""
MUCH = 0.15
"""Least part of the time that is named as a cause."""
_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "FakeQuantize", "Convert"})
_LAYOUT = frozenset({"Reorder", "ReorderInput", "ReorderOutput", "Transpose", "Reshape"})
_FLOAT = frozenset({"Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "ConvTranspose"})


def no_gain_reason(form: BuiltForm, feed: Arrays, report: ProfileReport, computes: str) -> str:
    """Return the likely cause in words.

    Args:
        form: The quantized form, as it was built.
        feed: Its inputs.
        report: The paired measurement of the source and the form.
        computes: The precision in which the runtime computes the form's.
    """
    causes: list[str] = []
    conclusion, source_ms = report.conclusion(report.forms[1]), report.forms[0].median_ms
    if source_ms < SMALL_MS:
        causes.append(f"the source takes {source_ms:.3f} ms, of which fixed costs per call and node are most")
    if computes != form.precision:
        causes.append(f"{form.precision} is how values are stored; the runtime computes them in {computes}")
    if form.precision not in HALVES:
        causes += _integer_causes(form, feed, report.threads)
    return f"{conclusion[0].upper()}{conclusion[1:]}. Likely cause: {'; '.join(causes) or 'none that its run shows'}."


def _integer_causes(form: BuiltForm, feed: Arrays, threads: int) -> list[str]:
    causes: list[str] = []
    times: dict[str, float] = {}
    try:
        for layer in runtime(form.runtime).layers(form, feed, threads):
            times[layer.operator] = times.get(layer.operator, 0.0) + layer.milliseconds
    except Exception as error:  # without a profile, the other causes are still reported
        causes.append(f"its run could not be profiled ({first_line(error)})")
    total = sum(times.values())
    for operators, words in (
        (_CONVERSIONS, "goes into bringing values to integers and back"),
        (_LAYOUT, "goes into changing layouts between nodes"),
        (_FLOAT, "goes into convolutions and products that stayed in floating point"),
    ):
        part = sum(time for operator, time in times.items() if operator in operators) / total if total else 0.0
        if part > MUCH:
            causes.append(f"{part:.0%} of its time {words}")
    if products_saturate():
        causes.append("this processor has no VNNI or AMX, without which integer products are hardly faster")
    if not causes and total:
        top = ", ".join(f"{name} {time / total:.0%}" for name, time in Counter(times).most_common(3))
        causes.append(f"its time is spread over {top}")
    return causes
