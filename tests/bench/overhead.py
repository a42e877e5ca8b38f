"""What `engines.api.conversion` adds to the same conversion by hand: `python -m tests.bench.overhead [--rounds N]`.

Both sides, in this process and in turn, after one unmeasured run of each:

| step | by hand | engines.api.conversion |
|---|---|---|
| build and load the network | exec, torch.load, load_state_dict | the same, after a look for code in the file |
| export, dynamic batch | torch.onnx.export, save | the same; network run at 1 and 2, graph at 1 |
| make ready | | checked, shapes inferred, stripped of paths |
| build and open | ONNX Runtime: the file; OpenVINO: convert, save, compile | the same |
| compare at batches 1, 2 and 8 | largest error against the largest output | all metrics, on as many samples |
| write | the model | the model, manifest, report, infer.py, README |

The latency table, which nobody makes by hand, is counted apart. The ratio is the median over rounds of engine / hand.
Processor time is that of all threads; it is what to read on a machine with other work. Goal: at most 5 % or 1 s.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch

from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.sandbox import Progress
from tests.integration.conversion.workbench import Bench

RESIDUAL = """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width, wider, stride):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(width, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU(),
                nn.Conv2d(wider, wider, 3, 1, 1, bias=False), nn.BatchNorm2d(wider),
            )
            self.skip = nn.Conv2d(width, wider, 1, stride, bias=False)

        def forward(self, x):
            return torch.relu(self.body(x) + self.skip(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [64, 64, 128, 256, 512]
            self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
            pairs = zip(widths, widths[1:])
            self.blocks = nn.Sequential(*(Block(a, b, 2) for a, b in pairs), *(Block(512, 512, 1) for _ in range(2)))
            self.head = nn.Linear(512, 1000)

        def forward(self, x):
            return self.head(self.blocks(self.stem(x)).mean((2, 3)))

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        return Net()
"""
BATCHES = (1, 2, 8)
CLOCKS = {"wall": "by the clock", "cpu": "of the processor"}
SHAPE = (3, 224, 224)


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of the processor over all threads."""

    wall: float
    cpu: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def now() -> Cost:
    return Cost(time.perf_counter(), time.process_time())


def by_hand(bench: Bench, runtime: str, out: Path) -> Cost:
    """Convert without Lathe; return what it costs."""
    start = now()
    space: dict[str, Any] = {"architecture": lambda _name: lambda function: function}
    exec(compile((bench.workdir / "architecture/net.py").read_text(), "net.py", "exec"), space)
    network = space["build"]().eval()
    network.load_state_dict(torch.load(bench.workdir / "source/net.pth", weights_only=True))
    program = torch.onnx.export(
        network,
        (torch.zeros(2, *SHAPE),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=max(BATCHES))},),
        verbose=False,
        input_names=["x"],
        output_names=["y"],
    )
    assert program is not None
    program.save(out / "model.onnx")
    run = _session(runtime, out)
    rng = np.random.default_rng(0)
    for size in BATCHES:
        x = rng.standard_normal((size, *SHAPE)).astype(np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(x)).numpy()
        assert np.abs(run(x) - expected).max() < 1e-3 * np.abs(expected).max()
    return now() - start


def _session(runtime: str, out: Path) -> Any:
    if runtime == "onnxruntime":
        session = OnnxRuntimeSession(out / "model.onnx", torch.get_num_threads(), optimise=True)
        return lambda x: session.run({"x": x})["y"]
    ov.save_model(ov.convert_model(out / "model.onnx"), out / "model.xml", compress_to_fp16=False)
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(out / "model.xml", "CPU", options)
    return lambda x: compiled(x)[0]


class Stopwatch(list[Progress]):
    """Progress, with what had been spent when each step began."""

    def __init__(self) -> None:
        super().__init__()
        self.start = now()
        self.spent: list[Cost] = []

    def append(self, step: Progress) -> None:
        self.spent.append(now() - self.start)
        super().append(step)

    def of(self, words: str) -> Cost:
        """Return what the step cost whose message holds the words."""
        index = next(i for i, step in enumerate(self) if words in step.message)
        return self.spent[index + 1] - self.spent[index]


def by_engine(bench: Bench, runtime: str) -> tuple[Cost, Cost]:
    """Convert with `engines.api.conversion`; return the cost without the latency table, and that of it."""
    bench.progress = watch = Stopwatch()
    inputs = [{"name": "x", "shape": [1, *SHAPE]}]
    bench.convert(bench.request(runtime=runtime, inputs=inputs, max_batch=max(BATCHES), error_threshold=1e-3))
    table = watch.of("measuring latency")
    return watch.spent[-1] - table, table


def measure(runtime: str, rounds: int) -> list[list[str]]:
    """Return two rows of the table: by the clock, and of the processor."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        bench.put_network(RESIDUAL)
        turns = [(by_hand(bench, runtime, Path(directory)), *by_engine(bench, runtime)) for _ in range(rounds + 1)]
    rows = {clock: [tuple(getattr(cost, clock) for cost in turn) for turn in turns[1:]] for clock in CLOCKS}
    return [_row(runtime, clock, costs) for clock, costs in rows.items()]


def _row(runtime: str, clock: str, turns: Sequence[tuple[float, ...]]) -> list[str]:
    hand, engine, table = (statistics.median(column) for column in zip(*turns, strict=True))
    ratio = statistics.median(turn[1] / turn[0] for turn in turns)
    added = statistics.median(turn[1] - turn[0] for turn in turns)
    return [runtime, CLOCKS[clock], f"{hand:.2f}", f"{engine:.2f}", f"{ratio:.3f}", f"{added:+.2f}", f"{table:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("| runtime | seconds | by hand | engines.api.conversion | ratio | difference | latency table |")
    print("|---|---|---|---|---|---|---|")
    for runtime in ("onnxruntime", "openvino"):
        with contextlib.redirect_stdout(io.StringIO()):
            rows = measure(runtime, rounds)
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
