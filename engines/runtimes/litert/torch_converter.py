"""litert-torch: a torch network, with the package's preprocessing in it, to a .tflite file.

Its requirements contradict those of the engines, so it lives in a Python environment of its own, which `LITERT_TORCH`
names, and runs there in a process that can be ended. The network goes there as `torch.export` writes it.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.refusals import crashed
from engines.runtimes.source import BuildSource
from engines.runtimes.torch_networks.exporting import export_program
from engines.runtimes.torch_networks.modules import packaged_network
from engines.sandbox.environment import LITERT_TORCH
from engines.sandbox.tools import run_tool

log = logging.getLogger(__name__)

_TITLE = "litert-torch"
_PROGRAM = Path(__file__).with_name("torch_process.py")
_OPERATOR = re.compile(r"Lowering not found: (?P<lacking>[\w.]+)|target=torch\.ops\.(?P<failing>[\w.]+)")


def environment() -> Path | None:
    """Return the Python of litert-torch's environment; None if none is set or it has no Python."""
    folder = os.environ.get(LITERT_TORCH, "")
    python = Path(folder) / "bin" / "python"
    return python if folder and python.is_file() else None


def version() -> str:
    """Return the version of litert-torch in its environment; empty if there is none."""
    python = environment()
    found = sorted(python.parents[1].glob("lib/python3*/site-packages/litert_torch-*.dist-info")) if python else []
    return found[0].name.removeprefix("litert_torch-").removesuffix(".dist-info") if found else ""


def converted_network(source: BuildSource) -> bytes:
    """Return the .tflite file of a source's torch network: inputs `args_0`…, outputs `output_0`…, every axis fixed.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if there is no environment with litert-torch; INVALID_SPEC for an axis that
            varies; UNSUPPORTED_OPERATOR naming what has no counterpart; TOOLCHAIN_CRASHED for anything else.
        Overrun: There was not enough time.
    """
    python = environment()
    if python is None:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"A torch network becomes a .tflite file by {_TITLE}, and this worker has none.",
            suggested_fix=f"Install it in an environment of its own (python3.11 -m venv DIR; DIR/bin/pip install "
            f"torch==2.13.0 litert-torch==0.10.0), and start the worker with {LITERT_TORCH}=DIR. Or choose the runtime "
            "onnxruntime.",
        )
    _check_fixed(source)
    program = export_program(_TITLE, packaged_network(_TITLE, source), source)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save(program, folder / "program.pt2")
        _run([str(python), "-P", str(_PROGRAM), str(folder / "program.pt2"), str(folder / "model.tflite")])
        return (folder / "model.tflite").read_bytes()


def _check_fixed(source: BuildSource) -> None:
    for spec in source.signature.inputs:
        if spec.dynamic_axes:
            axis = spec.dynamic_axes[0]
            low, high = spec.min[axis], spec.max[axis]
            batch = " (`max_batch` of the component is 1 then)" if axis == spec.batch_axis else ""
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"{_TITLE} fixes every axis, and axis {axis} of input '{spec.name}' ranges from {low} to {high}.",
                suggested_fix=f"Declare one extent for it{batch}, or choose the runtime onnxruntime.",
            )


def _save(program: object, path: Path) -> None:
    import torch

    torch.export.save(program, path)  # type: ignore[arg-type]


def _run(command: list[str]) -> None:
    """Run the converter; its words are in the log."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = run_tool(command, environment)
    log.info("%s: %s", _TITLE, ended.text)
    if ended.status:
        raise _explained(ended.text, ended.status)


def _explained(words: str, status: int) -> EngineFailure:
    match = _OPERATOR.search(words)
    errors = [line for line in words.splitlines() if re.match(r"[\w.]*Error\b", line)]
    if match is None:
        return crashed(_TITLE, "convert the network", RuntimeError(errors[-1] if errors else f"exit status {status}"))
    operator = match["lacking"] or match["failing"]
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"{_TITLE} cannot write the operator {operator} for LiteRT.",
        operator=operator,
        evidence=(errors or [words])[-1][-1000:],
        suggested_fix="Write it with other operators, or choose the runtime onnxruntime.",
    )
