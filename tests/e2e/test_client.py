"""The Python client as its documentation shows it, and a client in another language by reflection alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import onnx
import pytest
import torch
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX, MODEL_FORMAT_PTH
from lathe_client import ImportEndedError, client
from onnx import TensorProto, helper

from services.local.roster import SERVICES
from tests.e2e.conftest import Suite, start_suite

README = Path(__file__).parents[2] / "protos" / "README.md"
NODE = Path(__file__).with_name("tour.js")
PACKAGES = ("@grpc/grpc-js@1.14.7", "grpc-js-reflection-client@1.4.2")


def addresses(suite: Suite) -> dict[str, str]:
    return {service.address_variable: suite.address(service.name) for service in SERVICES}


def test_the_example_of_the_client_runs_as_it_is_written(stack: Suite, tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [each for each in examples if "from lathe_client import" in each]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "net", [x], [y])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "net.onnx"
    )
    environment = stack.environment() | addresses(stack)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100%" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(": 1}"), done.stdout
    assert (tmp_path / "package" / "manifest.json").exists()


def test_a_large_version_is_imported(stack: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "IMPORTED_FROM", 0)
    torch.save({"fc.weight": torch.ones(4, 3)}, tmp_path / "a.pth")
    model = f"imported-{uuid.uuid4().hex[:8]}"
    with client.Lathe({service.name: stack.address(service.name) for service in SERVICES}) as lathe:
        version = lathe.push(f"models/{model}", tmp_path / "a.pth", format=MODEL_FORMAT_PTH)
        assert version.name == f"models/{model}/versions/1"
        with pytest.raises(ImportEndedError, match="INVALID_MODEL") as caught:
            lathe.push(f"models/{model}", tmp_path / "a.pth", format=MODEL_FORMAT_ONNX)
        assert caught.value.message.name.startswith(f"models/{model}/imports/")


@pytest.mark.skipif("STUBS_FROM_INDEX" not in os.environ, reason="installs from the package index of Node.js")
@pytest.mark.skipif(not shutil.which("npm"), reason="Node.js is not installed")
def test_a_node_client_goes_from_an_empty_installation_to_a_release(tmp_path: Path) -> None:
    subprocess.run(["npm", "install", "--silent", "--no-fund", *PACKAGES], cwd=tmp_path, check=True)
    shutil.copy(NODE, tmp_path)
    suite = start_suite(tmp_path / ".lathe")
    try:
        suite.lathe("demo", "--prepare", "--data-dir", str(suite.data_dir))
        done = subprocess.run(
            ["node", "tour.js", str(suite.data_dir / "demo")],
            cwd=tmp_path, env=suite.environment() | addresses(suite), capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        left = suite.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert left == []
    assert re.search(r"released models/digits/versions/\d+", done.stdout)
    assert re.search(r"saved models/digits/versions/\d+", done.stdout)
