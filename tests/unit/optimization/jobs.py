"""Entry functions that run in a sandboxed child, as a task's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.sandbox import Reporter
from engines.timing.process import FormProcess
from tests.unit.optimization.forms import made, ones, truth


def runner_in_sandbox(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    with FormProcess.open(made(workdir / "form"), 1, workdir) as runner:
        (outputs,) = runner.run([ones()])
        return {
            "right": bool(np.allclose(outputs["y"], truth(ones()), rtol=1e-3)),
            "calls": len(runner.turn(0, 3)),
            "memory_bytes": runner.memory_bytes,
        }
