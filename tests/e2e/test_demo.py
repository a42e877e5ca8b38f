"""`lathe demo`, on the suite that runs already."""

from __future__ import annotations

import re

from tests.e2e.conftest import Suite


def test_the_demo_ends_with_packages_that_know_digits(stack: Suite) -> None:
    done = stack.lathe("demo", "--data-dir", str(stack.data_dir), timeout=600)
    accuracies = [float(each) for each in re.findall(r"(\d+\.\d+)%", done.stdout.partition("Held-out digits")[2])]
    assert len(accuracies) == 3, done.stdout
    assert len(set(accuracies)) == 1
    assert accuracies[0] > 95
    assert "Parity" in done.stdout
    assert "Latency" in done.stdout
    assert "Answered from the action cache" in done.stderr
    assert stack.lathe("status", check=False).returncode == 0
