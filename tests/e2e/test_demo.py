"""`lathe demo`, its first part, on the suite that runs already.

`make demo` runs all parts.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.e2e.conftest import Suite


@pytest.fixture(scope="module")
def demo(stack: Suite) -> subprocess.CompletedProcess[str]:
    return stack.lathe("demo", "--part", "digits", "--data-dir", str(stack.data_dir), timeout=900)


@pytest.mark.timeout(1000)
def test_the_demo_ends_with_released_packages_that_know_digits(
    stack: Suite, demo: subprocess.CompletedProcess[str]
) -> None:
    closing = demo.stdout.partition("Accuracy of the forms on held-out data")[2]
    figures = [float(each) for each in re.findall(r"(\d+\.\d+)%", closing)]
    assert len(figures) == 4, demo.stdout
    assert len(set(figures[:3])) == 1, "FP32 packages answer as PyTorch does"
    assert min(figures) > 95
    for table in (
        *("Parity", "Latency", "Quantizers tried", "Differences from the first evaluation", "Measured forms"),
        *("Profile on", "Slowest of"),
    ):
        assert table in demo.stdout
    assert "Answered from the action cache" in demo.stderr
    assert "channels/production/releases/1 serves" in demo.stderr
    for report in ("float", "int8", "comparison", "optimization", "profile"):
        page = stack.data_dir / "demo" / f"digits-{report}.html"
        assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert stack.lathe("status", check=False).returncode == 0
