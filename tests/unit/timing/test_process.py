from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.form import FormSpec, Made
from engines.runtimes.protocol import BuiltForm
from engines.sandbox import Limits, run_sync
from engines.timing import exchange
from engines.timing.exchange import read_arrays, write_arrays
from engines.timing.process import FormProcess
from tests.unit.optimization.forms import ORT, form, made, ones, truth

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FormProcess]:
    folder = tmp_path_factory.mktemp("runner")
    with FormProcess.open(made(folder / "form"), 1, folder / "work") as opened:
        yield opened


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for by its parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_it_computes_what_the_form_computes(runner: FormProcess) -> None:
    feeds = [ones(1), ones(4)]
    for feed, outputs in zip(feeds, runner.run(feeds), strict=True):
        np.testing.assert_allclose(outputs["y"], truth(feed), rtol=1e-3, atol=1e-4)


def test_turns_time_each_call_of_the_feeds_that_were_run(runner: FormProcess) -> None:
    runner.run([ones(1), ones(2)])
    assert all(seconds > 0 for seconds in runner.turn(1, 4))
    assert len(runner.turn(0, 4, warm=0)) == 4
    runner.call(ones(4))
    assert runner.turn(1, 1)  # a single call leaves the feeds as they are
    assert runner.throughput(0, 0.01, samples=8) > 0


def test_many_feeds_go_in_parts_and_leave_none_behind(runner: FormProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PART_BYTES", 2 * ones(1)["x"].nbytes)
    runner.run([ones(1)])
    sizes = [1, 1, 1, 4, 1]
    assert [len(outputs["y"]) for outputs in runner.answers([ones(size) for size in sizes])] == sizes
    assert runner.turn(0, 1)
    assert runner.answers([]) == []


def test_memory_is_the_process_s_own(runner: FormProcess) -> None:
    assert 10 << 20 < runner.memory_bytes < 1 << 30


def test_a_failure_of_a_call_leaves_the_process(runner: FormProcess) -> None:
    with pytest.raises(EngineFailure) as raised:
        runner.call({"x": np.ones((1, 3), np.float32)})
    assert raised.value.reason is FailureReason.TOOLCHAIN_CRASHED
    assert "y" in runner.call(ones(1))


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    nothing = Made(ORT, BuiltForm("onnxruntime", "cpu-x86-64", "FP32", tmp_path, ("model.onnx",), ("y",)))
    with pytest.raises(EngineFailure, match="load the graph"):
        FormProcess.open(nothing, 1, tmp_path)
    assert list(tmp_path.iterdir()) == []  # its folder went with it


def test_a_process_that_dies_is_named_with_its_signal(tmp_path: Path) -> None:
    runner = FormProcess.open(made(tmp_path / "form"), 1, tmp_path)
    os.kill(runner.pid, signal.SIGSEGV)
    with pytest.raises(EngineFailure, match=r"onnxruntime FP32 was ended by SIGSEGV .*run") as raised:
        runner.run([ones()])
    assert raised.value.reason is FailureReason.TOOLCHAIN_CRASHED
    with pytest.raises(EngineFailure, match="closed"):
        runner.run([ones()])


def test_what_takes_too_long_is_stopped(tmp_path: Path) -> None:
    runner = FormProcess.open(made(tmp_path / "form"), 1, tmp_path)
    runner.run([ones()])
    runner.patience = 0.05
    with pytest.raises(EngineFailure, match="no answer within") as raised:
        runner.turn(0, 10_000_000)
    assert raised.value.reason is FailureReason.TIMEOUT
    assert gone(runner.pid)


def test_memory_is_bounded_for_one_process_alone(tmp_path: Path) -> None:
    runner = FormProcess.open(made(tmp_path / "form"), 1, tmp_path, memory_bytes=160 << 20)
    large = {"x": np.zeros((1 << 18, 96), np.float32)}  # 100 MB to read, and as much for each layer
    with runner, pytest.raises(EngineFailure) as raised:
        runner.call(large)
    assert raised.value.reason in {FailureReason.OUT_OF_MEMORY, FailureReason.TOOLCHAIN_CRASHED}


def test_a_process_that_ends_while_it_opens_tells_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FormProcess, "program", "tests.nowhere")
    with pytest.raises(EngineFailure, match=r"exit status 1 .*open") as raised:
        FormProcess.open(made(tmp_path / "form"), 1, tmp_path)
    assert "nowhere" in raised.value.evidence


def test_candidates_go_before_the_source_where_memory_runs_out(tmp_path: Path) -> None:
    form_ = made(tmp_path / "form")
    with (
        FormProcess.open(form_, 1, tmp_path) as candidate,
        FormProcess.open(form_, 1, tmp_path, expendable=False) as source,
    ):
        scores = [int(Path(f"/proc/{each.pid}/oom_score_adj").read_text()) for each in (candidate, source)]
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert scores == [1000, own]


def test_processes_die_with_their_parent_even_while_they_are_stopped(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from engines.timing.process import FormProcess\n"
        "from tests.unit.optimization.forms import made\n"
        "runner = FormProcess.open(made(Path(sys.argv[1]) / 'form'), 1, Path(sys.argv[1]))\n"
        "print(runner.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=TESTS.parent
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(pid)


def test_it_works_in_a_sandbox(tmp_path: Path) -> None:
    job = "tests.unit.optimization.jobs:runner_in_sandbox"
    found = run_sync(job, {}, tmp_path / "work", Limits(2 << 30, 240), readable=[TESTS])
    assert found["right"]
    assert found["calls"] == 3
    assert 10 << 20 < found["memory_bytes"] < 1 << 30


def test_openvino_opens_there_too(tmp_path: Path) -> None:
    spec = FormSpec("openvino", "FP32")
    with FormProcess.open(Made(spec, form(tmp_path / "form", "openvino")), 1, tmp_path) as runner:
        np.testing.assert_allclose(runner.call(ones())["y"], truth(ones()), rtol=1e-3, atol=1e-4)


def test_arrays_travel_with_names_of_any_kind(tmp_path: Path) -> None:
    sets = [{"a/b": np.arange(3), "": np.float32(2.0) * np.ones(())}, {}, {"a/b": np.zeros((0, 2), bool)}]
    back = read_arrays(tmp_path / "x.npz", write_arrays(tmp_path / "x.npz", sets))
    assert [list(arrays) for arrays in back] == [["a/b", ""], [], ["a/b"]]
    for given, found in zip(sets, back, strict=True):
        for name, array in given.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
