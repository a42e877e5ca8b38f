"""What `engines.conversion` adds to the same conversion by hand: `python -m tests.bench.overhead [--rounds N]`.

By hand: load the weights, `torch.onnx.export` with a dynamic batch, build for the runtime, open it, and compare it
with the network at the same batches. Both run in this process in turn, after one unmeasured run of each; the latency
table, which nobody makes by hand, is counted apart. Goal: at most 5 % or 1 s.
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
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch

from engines.backends.onnxruntime import OnnxRuntimeSession
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
SHAPE = (3, 224, 224)


def by_hand(bench: Bench, network: Any, runtime: str, out: Path) -> float:
    """Convert without Lathe; return the seconds that it takes."""
    start = time.perf_counter()
    network.load_state_dict(torch.load(bench.workdir / "source/net.pth", weights_only=True))
    batch = torch.export.Dim("batch", min=1, max=8)
    example = (torch.zeros(2, *SHAPE),)
    program = torch.onnx.export(
        network,
        example,
        dynamo=True,
        dynamic_shapes=({0: batch},),
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
    return time.perf_counter() - start


def _session(runtime: str, out: Path) -> Any:
    if runtime == "onnxruntime":
        session = OnnxRuntimeSession(out / "model.onnx", torch.get_num_threads(), optimise=True)
        return lambda x: session.run({"x": x})["y"]
    ov.save_model(ov.convert_model(out / "model.onnx"), out / "model.xml", compress_to_fp16=False)
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(out / "model.xml", "CPU", options)
    return lambda x: compiled(x)[0]


class Stopwatch(list[Progress]):
    """Progress, with the seconds since the start at which each step began."""

    def __init__(self) -> None:
        super().__init__()
        self.start = time.perf_counter()
        self.times: list[float] = []

    def append(self, step: Progress) -> None:
        self.times.append(time.perf_counter() - self.start)
        super().append(step)

    def seconds(self, words: str) -> float:
        """Return how long the step took whose message holds the words."""
        index = next(i for i, step in enumerate(self) if words in step.message)
        return self.times[index + 1] - self.times[index]


def by_engine(bench: Bench, runtime: str) -> tuple[float, float]:
    """Convert with `engines.conversion`; return the seconds without the latency table, and those for it."""
    bench.progress = watch = Stopwatch()
    inputs = [{"name": "x", "shape": [1, *SHAPE]}]
    bench.convert(bench.request(runtime=runtime, inputs=inputs, max_batch=max(BATCHES), error_threshold=1e-3))
    table = watch.seconds("measuring latency")
    return watch.times[-1] - table, table


def measure(runtime: str, rounds: int) -> list[str]:
    """Return a row of the table."""
    hand: list[float] = []
    engine: list[float] = []
    table: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        network = bench.put_network(RESIDUAL)
        for turn in range(rounds + 1):
            times = by_hand(bench, network, runtime, Path(directory)), *by_engine(bench, runtime)
            if turn:
                for column, value in zip((hand, engine, table), times, strict=True):
                    column.append(value)
    ratio = statistics.median(e / h for e, h in zip(engine, hand, strict=True))
    by, through = statistics.median(hand), statistics.median(engine)
    latency = statistics.median(table)
    return [runtime, f"{by:.2f}", f"{through:.2f}", f"{ratio:.3f}", f"{through - by:+.2f}", f"{latency:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("| runtime | by hand, s | engines.conversion, s | ratio | difference, s | latency table, s |")
    print("|---|---|---|---|---|---|")
    for runtime in ("onnxruntime", "openvino"):
        with contextlib.redirect_stdout(io.StringIO()):
            row = measure(runtime, rounds)
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
