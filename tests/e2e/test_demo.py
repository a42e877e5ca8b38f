"""`lathe demo`, its first part, on the suite that runs already, and the README's tour, which needs what it leaves.

`make demo` runs all parts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Suite

README = Path(__file__).parents[2] / "protos" / "README.md"
# Stands in for grpcurl, which no package index has: the same arguments, and URLs as it writes them.
GRPCURL = f"""#!{sys.executable}
import subprocess, sys
_, _plaintext, *data, address, symbol = sys.argv
flags, path = (["--list-services"], "") if symbol == "list" else (data, f"/{{symbol}}")
command = ["buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", *flags, f"http://{{address}}{{path}}"]
done = subprocess.run(command, stdout=subprocess.PIPE)
sys.stdout.buffer.write(done.stdout.replace(b"&", rb"\\u0026"))
sys.exit(done.returncode)
"""


@pytest.fixture(scope="module")
def demo(stack: Suite) -> subprocess.CompletedProcess[str]:
    return stack.lathe("demo", "--part", "digits", "--data-dir", str(stack.data_dir), timeout=380)


@pytest.mark.timeout(400)
def test_the_demo_ends_with_released_packages_that_know_digits(
    stack: Suite, demo: subprocess.CompletedProcess[str]
) -> None:
    closing = demo.stdout.partition("Accuracy of the forms on held-out data")[2]
    figures = [float(each) for each in re.findall(r"(\d+\.\d+)%", closing)]
    assert len(figures) == 4, demo.stdout
    assert len(set(figures[:3])) == 1, "FP32 packages answer as PyTorch does"
    assert min(figures) > 95
    for table in ("Parity", "Latency", "Quantizers tried", "Differences from the first evaluation", "Measured forms"):
        assert table in demo.stdout
    assert "Answered from the action cache" in demo.stderr
    assert "channels/production/releases/1 serves" in demo.stderr
    for report in ("digits-float.html", "digits-int8.html", "digits-comparison.html", "digits-optimization.html"):
        assert (stack.data_dir / "demo" / report).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert stack.lathe("status", check=False).returncode == 0


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("demo")
@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="the tour needs jq and curl")
def test_the_tour_of_the_readme_runs_as_it_is_written(stack: Suite, tmp_path: Path) -> None:
    section = README.read_text(encoding="utf-8").partition("## Five minutes with grpcurl")[2]
    tour = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)[0]
    grpcurl = tmp_path / "grpcurl"
    grpcurl.write_text(GRPCURL)
    grpcurl.chmod(0o755)
    (tmp_path / ".lathe").symlink_to(stack.data_dir)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", tour],
        cwd=tmp_path, env=stack.environment() | {"PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lathe.registry.v1.ReleaseService" in done.stdout
    assert '"modelVersion": "models/digits' in done.stdout
