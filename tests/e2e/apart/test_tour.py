"""The tour of protos/README.md, as it is written: by grpcurl and by buf, each in an empty installation of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import start_suite

README = Path(__file__).parents[3] / "protos" / "README.md"
NEEDED = ("jq", "curl")


def blocks() -> list[str]:
    section = README.read_text(encoding="utf-8").partition("## Five minutes with grpcurl")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"the tour needs {' and '.join(NEEDED)}")
@pytest.mark.parametrize("tool", ["grpcurl", "buf"])
def test_the_tour_runs_from_an_empty_installation(tool: str, tmp_path: Path) -> None:
    tour, by_buf = blocks()
    if tool == "buf":
        # The block for buf defines `call` again; all else is the same.
        tour = re.sub(r"^call\(\) .*$", lambda _: by_buf.strip(), tour, flags=re.MULTILINE)
        tour = re.sub(r"^grpcurl .* list$", "", tour, flags=re.MULTILINE)
        assert "grpcurl" not in re.sub(r"#.*", "", tour)
    suite = start_suite(tmp_path / ".lathe")
    try:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", tour],
            cwd=tmp_path, env=suite.environment() | {"PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        left = suite.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert left == []
    if tool == "grpcurl":
        assert "lathe.registry.v1.ReleaseService" in done.stdout
    assert '"modelVersion": "models/digits' in done.stdout
