"""A quantizer that ends the process, in the sandbox of a worker: it is listed as failed, and the task succeeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from engines.sandbox import Child, Limits
from services.tasks.worker.runner import ChildSlot
from tests.integration.quantization.workbench import BLOCK, IDS, QuantizationBench, put_tensors

TESTS = Path(__file__).parents[2]
ENTRY = "tests.integration.quantization.jobs:deadly_quantizer"


async def test_a_quantizer_that_crashes_is_listed_and_another_one_makes_the_result(tmp_path: Path) -> None:
    folder, lines = tmp_path / "work", list[str]()
    folder.mkdir()
    bench = QuantizationBench(folder)
    bench.put_onnx(BLOCK, np.zeros((1, 12), np.int64))
    ids = np.random.default_rng(0).integers(0, 64, (24, 12))
    calibration = put_tensors(folder / "calibration", {"ids": ids})
    request = bench.onnx_work(
        {"calibration_method": "MINMAX", "asymmetric": True}, inputs=IDS, max_batch=4, method="raw"
    )
    request |= {"calibration": calibration, "signal": "SIGSEGV"}
    spawn = partial(Child.spawn, folder, ["engines.api.quantization"], readable=[TESTS])
    slot = ChildSlot(await spawn(), folder, ENTRY, spawn)
    try:
        outcome = await slot.run(request, Limits(2 << 30, 800), lambda _progress: None, lines.append)
    finally:
        await slot.stop()

    assert lines.count("another process") == 2
    *others, crashed = outcome["result"]["candidates"]
    assert "nncf" in crashed["quantizer"]
    assert "SIGSEGV" in crashed["reason"]
    assert any(candidate.get("chosen") for candidate in others)
    again = lines[len(lines) - lines[::-1].index("another process") :]
    known = next(place for place, line in enumerate(again) if "holds" in line)
    assert not any("quantizing" in line for line in again[:known])  # what was made is not made again
    assert (folder / "package" / "manifest.json").is_file()
    assert not (folder / "search").exists()
