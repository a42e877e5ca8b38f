"""A job of steps, each of which may end its process: it runs in the sandbox's children only."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from engines.sandbox import Reporter
from tests.integration.sandbox.jobs import Values, user_code


def steps(request: Values, workdir: Path, report: Reporter) -> Values:
    """Take each step of request["steps"] that did not end an earlier process; tell how they went."""
    dead = {entry["step"]: entry["failure"]["reason"] for entry in request.get("deaths", ())}
    for name, fault in request["steps"].items():
        if name in dead:
            continue
        report.risk(name)
        if fault == "memory":
            held = bytearray(1 << 30)
            held[::4096] = bytes([1]) * len(held[::4096])
            time.sleep(600)
        elif fault == "sleep":
            time.sleep(600)
        elif fault == "forbidden":
            user_code({"source": "import os\nos.system('true')"}, workdir, report)
        elif fault:
            os.kill(os.getpid(), signal.Signals[fault])
        report.risk("")
        print("survived", name)  # noqa: T201 - what a job prints is its log
    if request.get("ends_outside"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"dead": dead, "left": sorted(path.name for path in workdir.glob("step-*"))}
