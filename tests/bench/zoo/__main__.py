"""Trained models through every job: `python -m tests.bench.zoo [--models …] [--budget 60]`.

Each row is one model from a pip package (`models.py`), converted for two runtimes, quantized, optimized and evaluated
by the entries of the workers, in the sandboxed child. *Parity* is the verdict of the job against the source. *Apart* is
the package beside outputs that were computed without Lathe: the largest error over the largest value. *Top-1* says how
often the optimized package tells the class that the model tells without Lathe. A model that cannot be fetched is
skipped, and the row says why.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure
from engines.spec.toolchain import hardware
from tests.bench import child
from tests.bench.zoo import jobs
from tests.bench.zoo.fetching import NotFetchedError
from tests.bench.zoo.models import SUBJECTS, Subject

RUNTIMES = ("onnxruntime", "openvino")
HEAD = (
    *("model", "format", "judge", "FP32: runtime, parity, apart, s", "int8: runtime, verdict, cosine, apart, s"),
    *("optimized: form, faster, apart, s", "top-1"),
)
Job = Callable[[], tuple[child.Measured, str]]


def row(name: str, subject: Subject, runtimes: list[str], budget_seconds: int) -> list[str]:
    """Do all jobs of a model in folders of their own; return the cells of its row."""
    with tempfile.TemporaryDirectory(prefix="lathe-zoo-") as folder:
        base = Path(folder) / "model"
        base.mkdir()
        request = jobs.lay_out(subject, base)

        def at(place: str) -> Path:
            workdir = Path(folder) / place
            shutil.copytree(base, workdir)
            return workdir

        converted = [_converted(subject, request, at(f"fp32-{each}"), each) for each in runtimes]
        quantized = [_quantized(subject, request, at(f"int8-{each}"), each) for each in runtimes]
        best = at("best")
        optimized = _optimized(subject, request, best, budget_seconds)
        top = _evaluated(subject, best) if (best / "package/manifest.json").is_file() else ""
    return [name, subject.source_format, subject.judge, "; ".join(converted), "; ".join(quantized), optimized, top]


def _converted(subject: Subject, request: dict[str, Any], workdir: Path, runtime: str) -> str:
    try:
        measured = jobs.convert(request, workdir, runtime)
    except EngineFailure as failure:
        return f"{runtime} {_said(failure)}"
    (component,) = measured.result["components"]
    verdict = component["parity"]["verdict"]
    return f"{runtime} {verdict} {jobs.agreement(subject, workdir).error:.1e} {measured.seconds:.1f}"


def _quantized(subject: Subject, request: dict[str, Any], workdir: Path, runtime: str) -> str:
    try:
        measured = jobs.quantize(subject, request, workdir, runtime)
    except EngineFailure as failure:
        return f"{runtime} {_said(failure)}"
    parity = measured.result["result"]["parity"]
    cosine = min(output["cosine"] for output in parity["outputs"])
    found = jobs.agreement(subject, workdir)
    apart = f"{found.error:.1e} (cosine {found.cosine:.4f})"
    return f"{runtime} {parity['verdict']} {cosine:.4f} {apart} {measured.seconds:.0f}"


def _optimized(subject: Subject, request: dict[str, Any], workdir: Path, budget_seconds: int) -> str:
    try:
        measured = jobs.optimize(request, workdir, budget_seconds)
    except EngineFailure as failure:
        return _said(failure)
    result = measured.result["result"]
    faster = result["optimization_result"]["speedup"] if "optimization_result" in result else result.get("speedup", 1)
    error = jobs.agreement(subject, workdir).error
    return f"{jobs.chosen(result)} {float(faster):.2f}× {error:.1e} {measured.seconds:.0f}"


def _evaluated(subject: Subject, workdir: Path) -> str:
    try:
        measured = jobs.evaluate(subject, workdir)
    except EngineFailure as failure:
        return _said(failure)
    return f"{jobs.top_1(measured.result):.1%}" if subject.scores >= 0 else "ran"


def _said(failure: EngineFailure) -> str:
    said = f"{failure.reason.value}: {failure.message} {failure.evidence[:100]}"
    return " ".join(said.replace("|", "/").split())


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--budget", type=int, default=60, help="seconds of each search")
    options = parser.parse_args()
    print(
        f"{child.cores()} cores of {hardware()}, {jobs.DEVICE}\n\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}",
        flush=True,
    )
    for name in options.models:
        try:
            cells = row(name, SUBJECTS[name], options.runtimes, options.budget)
        except NotFetchedError as reason:
            cells = [name, SUBJECTS[name].source_format, f"skipped: {reason}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
