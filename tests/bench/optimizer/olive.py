"""What Olive makes of the same ONNX file by itself, from an environment of its own.

Olive is no dependency of Lathe, and its own need not fit Lathe's: it is called as a program. Its environment holds
`olive-ai`, `requests`, `onnxruntime` and `onnxscript`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from engines.runtimes.form import Made
from tests.bench.optimizer.layout import Layout
from tests.bench.optimizer.peers import peer

PACKAGES = ("olive-ai==0.13.0", "requests", "torch==2.13.0", "onnxruntime", "onnx", "onnxscript")
PRECISIONS = {"Olive fp32": ("fp32", "FP32"), "Olive int8": ("int8", "INT8")}
"""What it is asked for, and what that is called here, by its name in tables."""
_TIMEOUT_SECONDS = 900


class OliveError(Exception):
    """Olive could not be installed, or made nothing of a model."""


def environment(folder: Path) -> Path:
    """Make an environment with Olive in a folder; return its Python.

    Raises:
        OliveError: It could not be installed.
    """
    python = folder / "bin/python"
    _called([sys.executable, "-m", "venv", str(folder)])
    _called([str(python), "-m", "pip", "install", "--quiet", *PACKAGES])
    return python


def optimize(layout: Layout, python: Path, name: str) -> Made:
    """Let Olive optimize a model's ONNX file at one precision; return what ONNX Runtime is to open.

    Raises:
        OliveError: It failed, or wrote no model.
    """
    asked, precision = PRECISIONS[name]
    out = layout.folder / f"olive-{asked}"
    program = python.with_name("olive")
    _called(
        [
            *(str(program), "auto-opt", "--model_name_or_path", str(layout.folder / "model.onnx")),
            *("--output_path", str(out), "--precision", asked),
            *("--device", "cpu", "--provider", "CPUExecutionProvider", "--disable_telemetry"),
        ],
        cwd=layout.folder,
    )
    found = sorted(out.rglob("*.onnx"))
    if not found:
        raise OliveError("it wrote no model")
    return peer(layout, "onnxruntime", precision, found[0])


def _called(command: list[str], cwd: Path | None = None) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=cwd, env=environ, timeout=_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OliveError(str(error)) from error
    if done.returncode:
        raise OliveError((done.stderr or done.stdout).strip()[-300:])
