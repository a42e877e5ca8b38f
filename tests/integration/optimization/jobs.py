"""Entry functions for the sandbox: optimizations some of whose builders end the process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from engines.api import optimization as optimizing
from engines.runtimes.openvino.runtime import OpenVino
from engines.sandbox import Reporter
from engines.search import contenders, final
from tests.unit.optimization.forms import graph


def deadly_builders(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Optimize a small graph; `request["fatal"]` says by the name of a knob's value which OpenVINO forms are deadly."""
    build, fatal = OpenVino.build, request["fatal"]

    def deadly(self: OpenVino, source: Any, target: Any, options: Any, out_dir: Path) -> Any:
        fault = fatal.get(",".join(f"{key}={value}" for key, value in sorted(options.knobs.items())))
        if fault == "memory":
            held = bytearray(2 << 30)
            held[::4096] = bytes([1]) * len(held[::4096])
            time.sleep(600)
        elif fault:
            os.kill(os.getpid(), signal.Signals[fault])
        return build(self, source, target, options, out_dir)

    # The search has time on whatever machine, and takes little of it: nobody looks at how fast a form is.
    final.FINAL_SECONDS, final.MOST_SECONDS, contenders.SCREEN_SECONDS = 0.4, 0.0, 0.1
    OpenVino.build = deadly  # type: ignore[method-assign]
    if not request.get("deaths"):
        graph(workdir / "source" / "m.onnx")
    print("another process")  # noqa: T201 - what a job prints is its log
    return optimizing.run(request, workdir, report)
