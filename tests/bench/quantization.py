"""Int8 against FP32, and what making it costs: `python -m tests.bench.quantization [--models …] [--runtimes …]`.

Each row is one quantization by `engines.api.quantization`, in the sandboxed child and with the modules that a
worker has imported. Latencies are those that the engine measures itself: source and result in the same runtime, paired
and interleaved in one process, the ratio with its 95 % interval, and that of the source against itself (A/A). Time is
that of the whole job from reading the model to the written package; memory is the peak of the child, what the imports
alone take in parentheses.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure
from engines.spec.toolchain import hardware
from services.quantizer.work import QuantizationWorkKind
from tests.bench import child, subjects
from tests.bench.subjects import Subject

RUNTIMES = ("onnxruntime", "openvino")
WORK = QuantizationWorkKind("cpu-x86-64")
HEAD = (
    *("model", "runtime", "form chosen", "cosine", "SQNR dB", "metric", "FP32 ms", "int8 ms", "faster (95 %)", "A/A"),
    *("size", "job s", "peak MiB", "verdict"),
)
FORMS = 64
"""Longest name of a form in the table."""


@dataclass(frozen=True)
class Case:
    """A model as it is quantized: what lays it out, and how many samples calibrate it."""

    subject: Subject
    samples: int


CASES = {
    "digits": Case(subjects.digits, 128),
    "resnet50": Case(subjects.resnet50, 16),
    "minilm-weights": Case(subjects.minilm_weights, 0),
    "minilm-static": Case(subjects.minilm_static, 48),
}


def measure(name: str, runtime: str, laid_out: Path, request: dict[str, Any], timeout_seconds: float) -> list[str]:
    """Quantize a copy of what was laid out; print a row, and return what is to be said under the table."""
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as folder:
        workdir = Path(folder) / "work"
        shutil.copytree(laid_out, workdir)
        asked = copy.deepcopy(request)
        asked["conversion"]["template"]["runtime"] = runtime
        try:
            measured = child.run(WORK.entry, asked, workdir, WORK.preload, timeout_seconds)
        except EngineFailure as failure:
            return [f"{name}, {runtime}: {failure.reason.value}: {failure.message} {failure.evidence}"]
        manifest = json.loads((workdir / "package/manifest.json").read_text(encoding="utf-8"))
    print(f"| {' | '.join([name, runtime, *_cells(measured, manifest)])} |", flush=True)
    return _remarks(name, runtime, measured.result["result"])


def _cells(measured: child.Measured, manifest: dict[str, Any]) -> list[str]:
    result = measured.result["result"]
    (component,) = manifest["quantization"]["components"].values()
    kept = len(component["floating_point_nodes"])
    form = component["quantizer"][:FORMS] + (f"; {kept} nodes in FP32" if kept else "")
    outputs, profile = result["parity"]["outputs"], result["profile"]
    source, quantized = profile["forms"][:2]
    size = int(result["size_bytes"]) / int(result["source_size_bytes"])
    metric = f"{result['source_accuracy']:.4f} → {result['accuracy']:.4f}" if "accuracy" in result else ""
    return [
        form,
        f"{min(output['cosine'] for output in outputs):.4f}",
        f"{min(output['sqnr_db'] for output in outputs):.1f}",
        metric,
        f"{source['median_ms']:.3f}",
        f"{quantized['median_ms']:.3f}",
        _ratio(quantized),
        _ratio(profile["control"]),
        f"{size:.2f}×",
        f"{measured.seconds:.1f}",
        f"{measured.peak_bytes / child.MIB:.0f} ({measured.imports_bytes / child.MIB:.0f})",
        result["parity"]["verdict"],
    ]


def _ratio(latency: dict[str, Any]) -> str:
    return f"{latency['speedup']:.2f}× ({latency['speedup_low']:.2f}–{latency['speedup_high']:.2f})"


def _remarks(name: str, runtime: str, result: dict[str, Any]) -> list[str]:
    head = f"{name}, {runtime}: "
    rungs = [len(rung["floating_point_nodes"]) for rung in result["ladder"]]
    said = [head + (result["no_gain_reason"] or next(iter(result["profile"]["conclusions"].values())))]
    for candidate in result["candidates"]:
        figures = (
            f"cosine {candidate['cosine']:.4f}, {candidate['median_ms']:.3f} ms; " if "cosine" in candidate else ""
        )
        outcome = "chosen" if candidate.get("chosen") else candidate["reason"]
        said.append(f"{head}{candidate['quantizer']}: {figures}{outcome}")
    return [*said, f"{head}ladder: {', '.join(map(str, rungs))} nodes in FP32"] if rungs else said


def main() -> None:
    """Print the table, then what became of each candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--samples", type=int, help="calibration samples; by model if not given")
    parser.add_argument("--timeout", type=float, default=600.0, help="longest time of one row, in seconds")
    options = parser.parse_args()
    print(f"{child.cores()} cores of {hardware()}\n\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    remarks: list[str] = []
    for name in options.models:
        case = CASES[name]
        with tempfile.TemporaryDirectory(prefix="lathe-bench-") as folder:
            laid_out = Path(folder)
            request = case.subject(laid_out, options.samples or case.samples)
            for runtime in options.runtimes:
                remarks += measure(name, runtime, laid_out, request, options.timeout)
    print("", *(f"- {remark}" for remark in remarks), sep="\n")


if __name__ == "__main__":
    main()
