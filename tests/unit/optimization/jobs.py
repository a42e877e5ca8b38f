"""Entry functions that run in a sandboxed child, as a task's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.optimization.runner import Runner
from engines.sandbox import Reporter
from tests.unit.optimization.forms import product, tiny


def runner_in_sandbox(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    made = tiny(workdir / "form", request["runtime"])
    with Runner.open(made, 1, workdir) as runner:
        feed = {"x": np.ones((2, 4), np.float32)}
        (outputs,) = runner.run([feed])
        seconds = runner.turn(0, 3)
        stopped = Path(f"/proc/{runner._process.pid}/stat").exists()
        return {
            "right": bool(np.allclose(outputs["y"], product(feed["x"]), rtol=1e-5)),
            "calls": len(seconds),
            "memory": runner.memory_bytes,
            "proc": stopped,
        }
