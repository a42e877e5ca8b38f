"""Conversions, optimizations and an evaluation on the GPU of this machine, as tables.

    python -m tests.gpu                            the device of the catalog that this machine's GPU is
    python -m tests.gpu --device cpu-x86-64        another one: proves the script without a GPU
    python -m tests.gpu --quick                    small batches and budgets

ResNet-50 has random weights; MiniLM and the digits have trained ones. The last table is in the form in which
vendors of optimizers show theirs: for each batch, TorchScript beside what loses nothing and what may compute in half.
"""

from __future__ import annotations

import argparse
import contextlib
import runpy
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.api import conversion
from engines.api.optimize import optimize
from engines.failures import EngineFailure
from engines.runtimes import Where, runtimes
from engines.runtimes.nvidia.gpus import is_gpu, missing_gpu
from engines.sandbox import Reporter
from engines.spec.devices import Device, load_catalog
from engines.spec.toolchain import version_of
from tests.bench import subjects

SUBJECTS = {"ResNet-50": subjects.resnet50, "MiniLM": subjects.minilm_static, "digits": subjects.digits}
SAMPLES = 8


def main() -> int:
    """Print the tables; return 1 if a conversion failed that the device should be able to do."""
    arguments = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.partition("\n")[0])
    arguments.add_argument("--device", default="", help="device of the catalog; the one of this machine's GPU if empty")
    arguments.add_argument("--quick", action="store_true", help="small batches and budgets")
    arguments.add_argument("--models", nargs="+", default=list(SUBJECTS), choices=SUBJECTS, help="which models")
    given = arguments.parse_args()
    found = [each for each in load_catalog().devices.values() if is_gpu(each) and not missing_gpu(each)]
    if not given.device and not found:
        missing = missing_gpu(load_catalog().device("nvidia-t4"))
        sys.stdout.write(f"There is no GPU of the catalog here: missing is {missing}. Name a device by --device.\n")
        return 2
    device = load_catalog().device(given.device) if given.device else found[0]
    rooms = [runtimes()[name] for name in device.buildable_runtimes]
    ran_on = {room.runs_on(device) for room in rooms} - {""}
    print(f"device {device.id}, run on: {', '.join(sorted(ran_on)) or 'nothing here'}; torch {version_of('torch')}")
    for room in rooms:
        why = room.available(device) or ("" if room.where(device) is Where.HERE else "runs only on the device")
        print(f"  {room.name}: {why or 'here'}")
    failed = conversions(device, given.models)
    if "digits" in given.models:
        evaluation(device, 10 if given.quick else 60)
    if "ResNet-50" in given.models:
        table(device, (1, 2) if given.quick else (1, 16, 32, 64), 15 if given.quick else 120)
    return 1 if failed else 0


def conversions(device: Device, models: Sequence[str]) -> int:
    """Convert each model for each runtime of the device in each precision; return how many failed."""
    failed = 0
    print("\n| model | runtime | precision | parity | seconds | latency |\n|---|---|---|---|---|---|")
    for name in models:
        for runtime, entry in device.buildable_runtimes.items():
            if runtimes()[runtime].available(device):
                continue
            for precision in entry.precisions:
                start = time.monotonic()
                try:
                    told = _converted(SUBJECTS[name], device, runtime, precision)
                except EngineFailure as failure:
                    failed += failure.reason.value not in {"INVALID_SPEC", "UNSUPPORTED_PRECISION"}
                    told = f"{failure.reason.value}: {failure.message[:150]} | "
                    told = "".join(told.splitlines())
                seconds = time.monotonic() - start
                parity, _, latency = told.partition(" | ")
                print(f"| {name} | {runtime} | {precision} | {parity} | {seconds:.1f} | {latency} |", flush=True)
    return failed


def _converted(subject: subjects.Subject, device: Device, runtime: str, precision: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        request = subject(Path(folder), SAMPLES)["conversion"]
        request["template"] |= {"device": device.id, "runtime": runtime, "precision": precision}
        request["template"].pop("error_threshold", None)  # of FP32; each precision has its own
        with contextlib.redirect_stdout(sys.stderr):  # the log of the task
            outcome = conversion.run(request, Path(folder), Reporter(lambda _progress: None))
    (made,) = outcome["components"]
    latencies = [f"{each['form']} {each['median_ms']:.3g} ms" for each in made.get("profile", {}).get("forms", [])]
    return f"{made['parity']['verdict']} | {', '.join(latencies)}"


def evaluation(device: Device, budget: int) -> None:
    """Optimize the digits' network, and count what the form and the network get right on images they never saw."""
    import torch

    from services.cli.demo import training

    with tempfile.TemporaryDirectory() as folder:
        trained = training.train(Path(folder), lambda _epoch, _loss: None)
        build = runpy.run_path(str(training.ARCHITECTURE), {"architecture": lambda _name: lambda function: function})
        network = build["build"]()
        network.load_state_dict(torch.load(trained.checkpoint, weights_only=True)["state_dict"])
        (component,) = subjects._template("digits_template.yaml")["components"]
        steps = component["inputs"][0]["preprocessing"]
        images = torch.from_numpy((trained.images - steps["mean_values"][0]) / steps["scale_values"][0]).float()
        shapes = [{"range": ["1*1*8*8", f"{len(images)}*1*8*8"]}]
        print("\n| digits | form | top-1 of the network | top-1 of the form |\n|---|---|---|---|")
        for level, words in ((0, "lossless"), (1, "half precision allowed")):
            form, report = optimize(network.eval(), level, device.id, shapes, budget_seconds=budget, progress=False)
            with torch.no_grad():
                answers = [np.asarray(each(images)).argmax(1) for each in (network, form)]
            right = [f"{100 * float((answer == trained.labels).mean()):.2f} %" for answer in answers]
            print(f"| {words} | {_chosen(report)} | {right[0]} | {right[1]} |", flush=True)


def table(device: Device, batches: Sequence[int], budget: int) -> None:
    """Print ResNet-50 at each batch: TorchScript, lossless, and half precision allowed."""
    network = runpy.run_path(str(subjects.RESNET), {"architecture": lambda _name: lambda function: function})["build"]()
    print(
        f"\nResNet-50, random weights, {device.id}, paired medians; the speed-up is over TorchScript\n"
        "| batch | TorchScript, ms | lossless, ms | speed-up | form | half, ms | speed-up | form |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for batch in batches:
        cells: list[str] = []
        for level in (0, 1):
            shape = f"{batch}*3*224*224"
            _, report = optimize(network.eval(), level, device.id, [shape], budget_seconds=budget, progress=False)
            result: dict[str, Any] = report["optimization_result"]
            cells += [] if cells else [f"{float(result['baseline_time_ms']):.3g}"]
            cells += [f"{float(result['optimized_time_ms']):.3g}", f"{float(result['speedup']):.2f}×", _chosen(report)]
        print(f"| {batch} | {' | '.join(cells)} |", flush=True)


def _chosen(report: Any) -> str:
    chosen = next(each for each in report["candidates"] if each.get("recommended"))
    return f"{chosen['runtime']} {chosen['precision']}"


if __name__ == "__main__":
    sys.exit(main())
