"""Builders that end the process of the search, in the sandbox of a worker: the forms are listed, the task succeeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engines.sandbox import Child, Limits
from services.tasks.worker.runner import ChildSlot
from tests.unit.optimization.forms import WIDTH
from tests.unit.optimization.test_request import work

TESTS = Path(__file__).parents[2]
ENTRY = "tests.integration.optimization.jobs:deadly_builders"


async def test_forms_whose_builders_end_the_process_are_listed_and_the_others_are_measured(tmp_path: Path) -> None:
    request = work(search_budget="1200s")
    request["conversion"]["template"]["components"][0]["inputs"] = [{"name": "x", "shape": ["1", str(WIDTH)]}]
    request["fatal"] = {"": "SIGKILL", "threads=1": "memory"}
    folder, lines = tmp_path / "work", list[str]()
    spawn = partial(Child.spawn, folder, ["engines.api.optimization"], readable=[TESTS])
    slot = ChildSlot(await spawn(), folder, ENTRY, spawn)
    try:
        outcome = await slot.run(request, Limits(2 << 30, 800), lambda _progress: None, lines.append)
    finally:
        await slot.stop()

    assert lines.count("another process") == 3
    candidates = {entry["form"]: entry for entry in outcome["result"]["candidates"]}
    killed, greedy = candidates["openvino FP32"]["failure"], candidates["openvino FP32, 1 thread"]["failure"]
    assert killed["reason"] == greedy["reason"] == "OUT_OF_MEMORY"
    assert "killed (SIGKILL)" in killed["message"]
    assert "its limit is 2.00 GiB" in greedy["message"]
    measured = [name for name, entry in candidates.items() if "latency" in entry]
    assert {"onnxruntime FP32", "onnxruntime FP32, pre-bound tensors"} <= set(measured)
    built = [line for line in lines if "pre-bound tensors: built" in line]
    assert len(built) <= 2  # measured once; made again at most if it leads
    assert (folder / "package" / "manifest.json").is_file()
    assert not (folder / "scratch").exists()
