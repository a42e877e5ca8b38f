"""What ONNX Runtime refuses, in words."""

from __future__ import annotations

import re
from pathlib import Path

from engines.runtimes.refusals import crashed, unsupported_operator

_MISSING_KERNEL = re.compile(r"Could not find an implementation for (?:(?P<domain>[\w.]+)[.:])?(?P<op>\w+)\(\d+\)")
_UNKNOWN_OPERATOR = re.compile(r"(?:(?P<domain>[\w.]+):)?(?P<op>\w+)\(-?\d*\) is not a registered function/op")


def translated(title: str, error: Exception, graph: Path) -> Exception:
    """Return the failure that ONNX Runtime means if it cannot load a graph."""
    raw = str(error)
    match = _MISSING_KERNEL.search(raw) or _UNKNOWN_OPERATOR.search(raw)
    if match:
        domain = match["domain"] or ""
        return unsupported_operator(title, graph, match["op"], "" if domain == "ai.onnx" else domain, raw)
    return crashed(title, "load the graph", error)
