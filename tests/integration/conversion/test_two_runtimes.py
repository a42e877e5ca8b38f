"""A package whose encoder computes in OpenVINO and whose decoder computes in ONNX Runtime, through all that uses it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.conversion.component import ComponentConversion, convert
from engines.imaging import encode_png
from engines.package.compatibility import Machine, judge
from engines.package.content import PackageContent
from engines.package.manifest import Manifest, read_manifest
from engines.package.opening import open_component
from engines.package.triton import lay_out
from engines.package.writer import finish_package, fresh_package
from engines.runtimes import runtime
from engines.sandbox import Reporter
from engines.spec.devices import load_catalog
from engines.spec.request import ConversionRequest
from engines.tensors import Array
from services.registry.releases.layout import config_text
from tests.integration.conversion.workbench import CNN, IMAGE, Bench
from tests.unit.evaluation.kit import Desk

RUNTIMES = {"encoder": "openvino", "decoder": "onnxruntime"}
CLASSES = [f"digit-{number}" for number in range(10)]
X = np.random.default_rng(0).integers(0, 256, (4, 3, 12, 12)).astype(np.float32)


@dataclass
class Made:
    """A package, what its components were made of, and the folder that it lies in."""

    workdir: Path
    networks: dict[str, Any]

    @property
    def package(self) -> Path:
        return self.workdir / "package"

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.package)

    def expected(self, component: str) -> Array:
        with torch.inference_mode():
            found: Array = self.networks[component](torch.from_numpy(X)).numpy()
        return found


def scale(factor: float, network: Any) -> None:
    network.head.weight.data.mul_(factor)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    bench = Bench(tmp_path_factory.mktemp("two-runtimes"))
    networks = {}
    for position, name in enumerate(RUNTIMES):
        networks[name] = bench.put_network(CNN, partial(scale, 1 + position))
        (bench.workdir / "source/net.pth").rename(bench.workdir / f"source/{name}.pth")
    parts = [
        {"name": name, "inputs": [IMAGE], "max_batch": 4, "source_file": f"{name}.pth", "output_names": ["scores"]}
        for name in RUNTIMES
    ]
    request = bench.request(components=parts, taxonomies=[{"task": "digit", "classes": CLASSES}])
    request["inputs"] = [{"path": f"source/{name}.pth"} for name in RUNTIMES] + [{"path": "architecture/net.py"}]
    request["architectures"] = dict.fromkeys(RUNTIMES, request["architectures"]["net"])
    work, package = ConversionRequest.parse(request), fresh_package(bench.workdir)
    done = [
        convert(
            ComponentConversion(work, each, runtime(RUNTIMES[each.name]), bench.workdir, package, lambda *_: None, 1)
        )
        for each in work.template.components
    ]
    finish_package(bench.workdir, PackageContent(work, done, request["template"]), Reporter(bench.progress.append))
    return Made(bench.workdir, networks)


def test_each_component_states_its_own_runtime(made: Made) -> None:
    forms = {entry.name: made.manifest.form_of(entry).runtime.name for entry in made.manifest.components}
    assert forms == RUNTIMES
    assert {"openvino", "onnxruntime"} < made.manifest.requirements.packages.keys()
    text = (made.package / "README.md").read_text()
    for form in made.manifest.forms:
        assert f"Computed in {form}." in text
    assert "onnxruntime==" in text
    assert "openvino==" in text


@pytest.mark.parametrize("component", RUNTIMES)
def test_infer_runs_each_component_in_its_own_runtime(component: str, made: Made, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    arguments = ["--component", component, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    command = [sys.executable, "-I", str(made.package / "infer.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, env={"PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), made.expected(component), rtol=1e-3, atol=1e-4)
    openers = {path.parent.name for path in (made.package / "runtimes").rglob("opener.py")}
    assert openers == set(RUNTIMES.values())


def test_triton_serves_each_component_by_its_own_backend(made: Made) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    models = lay_out(made.manifest, "net", 2, "models/net/versions/1")
    configs = [text_format.Parse(config_text(each.config), model_config_pb2.ModelConfig()) for each in models]
    assert {config.name.removeprefix("net_"): config.backend for config in configs} == RUNTIMES
    assert [each.files[-1][0] for each in models] == ["net_encoder/2/model.xml", "net_decoder/2/model.onnx"]
    assert ["execution_mode" in config.parameters for config in configs] == [False, True]
    assert ["PERFORMANCE_HINT" in config.parameters for config in configs] == [True, False]
    for model in models:
        assert all((made.package / source).is_file() for _, source in model.files)


def test_a_machine_is_checked_for_each_component_and_the_answer_names_it(made: Made) -> None:
    versions = {form.runtime.name: form.runtime.version for form in made.manifest.forms}
    catalog = load_catalog()
    assert judge(made.manifest, Machine("cpu-x86-64", runtime_versions=versions), catalog).compatible
    old = judge(made.manifest, Machine(runtime_versions=versions | {"onnxruntime": "1.2.0"}), catalog)
    assert ["component 'decoder'" in reason for reason in old.reasons] == [True]


def test_each_component_is_evaluated_in_its_own_runtime(made: Made) -> None:
    for component, name in RUNTIMES.items():
        with open_component(made.package, component, 1) as opened:
            assert opened.form.runtime.name == name
            np.testing.assert_allclose(opened.run({"x": X})["scores"], made.expected(component), rtol=1e-3, atol=1e-4)
    desk = Desk(made.workdir)
    for image, scores in zip(X, made.expected("encoder"), strict=True):
        pixels = image[::-1].transpose(1, 2, 0).astype(np.uint8)  # to BGR
        label = CLASSES[int(scores.argmax())]
        desk.put_bytes(encode_png(pixels), width=12, height=12, classifications={"digit": label})
    ran = desk.run()
    assert ran.report.package.runtime == "openvino"
    assert ran.figure("top1") == 1.0
