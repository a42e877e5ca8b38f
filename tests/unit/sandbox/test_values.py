from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engines.failures import FailureReason
from engines.sandbox import landlock, outcome, paths
from engines.sandbox.environment import child_environment
from engines.sandbox.processes import Usage
from engines.sandbox.types import Layer, Limits, Progress, Reporter, Sandbox


def test_importing_the_sandbox_is_cheap() -> None:
    script = "import sys, engines.sandbox as s; s.Child, s.Limits; print([m for m in sys.modules if m in sys.argv])"
    heavy = ["numpy", "torch", "onnx", "onnxruntime", "openvino", "pydantic", "services"]
    done = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_that_is_not_public() -> None:
    import engines.sandbox

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = engines.sandbox.nothing


def test_the_environment_is_an_allow_list() -> None:
    inherited = {
        "LANG": "C",
        "PATH": "/bin",
        "LATHE_S3_SECRET_KEY": "x",
        "AWS_TOKEN": "x",
        "LD_PRELOAD": "x",
        "HOME": "/x",
    }
    environment = child_environment(Path("/w"), Path("/code"), inherited)
    assert environment["PATH"] == "/bin"
    assert environment["HOME"] == "/w/.sandbox/home"
    assert environment["PYTHONPATH"] == "/code"
    assert not {"LATHE_S3_SECRET_KEY", "AWS_TOKEN", "LD_PRELOAD"} & set(environment)


def test_no_home_and_no_repository_is_a_code_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", str(paths.engines_root()), str(Path.home()), "/", "/tmp"])
    roots = paths.code_roots()
    assert paths.engines_root() / "engines" in roots
    assert not {paths.engines_root(), Path.home(), Path("/"), Path("/tmp")} & set(roots)


@pytest.mark.parametrize(("version", "last"), [(1, 12), (2, 13), (3, 14), (4, 14), (5, 15), (6, 15), (7, 15), (99, 15)])
def test_landlock_requests_only_rights_of_the_kernels_version(version: int, last: int) -> None:
    assert landlock.handled_rights(version) == (1 << (last + 1)) - 1


def test_progress_is_clipped_and_thinned_out() -> None:
    seen: list[Progress] = []
    report = Reporter(seen.append)
    for fraction in (-1.0, 0.1, 0.2):
        report.progress(fraction, "loading")
    report.progress(0.3, "running")
    report.progress(7.0, "running")
    assert seen == [Progress(0.0, "loading"), Progress(0.3, "running"), Progress(1.0, "running")]


def test_the_description_lists_active_and_inactive_layers() -> None:
    sandbox = Sandbox.from_message({"landlock": [True, "ABI 7"], "network_namespace": [False, "not permitted"]})
    assert sandbox.layers == {"landlock": Layer(True, "ABI 7"), "network_namespace": Layer(False, "not permitted")}
    assert sandbox.describe()["writes_confined"] is True
    assert sandbox.describe()["network_absent"] is False
    assert sandbox.sentence() == "active: landlock; not active: network_namespace (not permitted)"


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (None, FailureReason.TOOLCHAIN_CRASHED, "disappeared"),
        (0, FailureReason.TOOLCHAIN_CRASHED, "exit status 0"),
        (-11, FailureReason.TOOLCHAIN_CRASHED, "SIGSEGV"),
        (-9, FailureReason.OUT_OF_MEMORY, "most likely"),
        (-35, FailureReason.TOOLCHAIN_CRASHED, "signal 35"),
    ],
)
def test_each_end_has_its_message(code: int | None, reason: FailureReason, words: str) -> None:
    failure = outcome.ended_early(code, ["one", "two"])
    assert failure.reason is reason
    assert words in failure.message
    assert failure.evidence == "one\ntwo"


def test_exceeded_limits_are_named_with_their_figures() -> None:
    limits = Limits(1 << 30, 90)
    assert "1.50 GiB" in outcome.over_memory(Usage(3 << 29, 1, 1), limits, []).message
    assert "1.00 GiB" in outcome.over_memory(Usage(3 << 29, 1, 1), limits, []).message
    assert "90 s" in outcome.timed_out(limits, Progress(0.5, "compiling"), []).message
    assert "50%: compiling" in outcome.timed_out(limits, Progress(0.5, "compiling"), []).message
    assert "600 processes" in outcome.too_many_tasks(Usage(0, 600, 600), []).message
