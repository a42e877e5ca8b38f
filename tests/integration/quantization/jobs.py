"""Entry function for the sandbox: a quantization one of whose quantizers ends the process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from engines.api import quantization as quantizing
from engines.quantization.nncf_quantizers import Nncf
from engines.quantization.quantizers import Material, Settings
from engines.sandbox import Reporter


def deadly_quantizer(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Quantize; NNCF ends the process by the signal that `request["signal"]` names."""

    def deadly(self: Nncf, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        os.kill(os.getpid(), signal.Signals[request["signal"]])
        raise AssertionError("the signal was not deadly")

    Nncf.quantize = deadly  # type: ignore[method-assign]
    print("another process")  # noqa: T201 - what a job prints is its log
    return quantizing.run(request, workdir, report)
