"""Where plans of TensorRT may run, and how Triton serves them."""

from __future__ import annotations

from typing import Any

import pytest

from engines.package.compatibility import Judgement, Machine, judge
from engines.package.manifest import Manifest
from engines.package.triton import lay_out
from engines.spec.devices import load_catalog
from tests.unit.package.test_manifest import MANIFEST

BUILT_FOR_A10 = {"architecture": "sm_86", "version": "11.4.0.106"}


def package(**options: str) -> Manifest:
    files = {"entry": "net/model.plan", "files": ["net/model.plan"], "options": BUILT_FOR_A10 | options}
    component: dict[str, Any] = MANIFEST["components"][0] | files
    form = {"runtime": {"name": "tensorrt", "version": "11.4.0.106"}, "device": "nvidia-a10"}
    return Manifest.model_validate(MANIFEST | form | {"components": [component]})


def asked(manifest: Manifest, device: str, version: str = "11.4.0.106") -> Judgement:
    return judge(manifest, Machine(device=device, runtime_version=version), load_catalog())


@pytest.mark.parametrize(
    ("options", "device", "right"),
    [
        ({}, "nvidia-a10", True),
        ({}, "nvidia-a100", False),
        ({"hardware_compatible": "AMPERE_PLUS"}, "nvidia-a100", True),
        ({"hardware_compatible": "AMPERE_PLUS"}, "nvidia-l4", True),
        ({"hardware_compatible": "AMPERE_PLUS"}, "nvidia-t4", False),
        ({"hardware_compatible": "AMPERE_PLUS"}, "cpu-arm64", False),
        ({"hardware_compatible": "SAME_COMPUTE_CAPABILITY"}, "nvidia-l4", False),
    ],
)
def test_a_plan_runs_on_its_chip_unless_it_is_built_for_more(options: dict[str, str], device: str, right: bool) -> None:
    assert asked(package(**options), device).compatible is right


@pytest.mark.parametrize(
    ("options", "version", "right"),
    [
        ({}, "11.4.0.107", False),
        ({"version_compatible": "on"}, "11.5.0.1", True),
        ({"version_compatible": "on"}, "11.3.0.99", False),
        ({"version_compatible": "on"}, "12.0.0.1", False),
    ],
)
def test_only_the_version_that_built_a_plan_runs_it_unless_it_is_version_compatible(
    options: dict[str, str], version: str, right: bool
) -> None:
    assert asked(package(**options), "nvidia-a10", version).compatible is right


def test_triton_serves_a_plan_on_a_gpu() -> None:
    (model,) = lay_out(package(), "shop", 1)
    assert model.files == (("shop/1/model.plan", "net/model.plan"),)
    assert model.config["backend"] == "tensorrt"
    assert model.config["instance_group"] == [{"kind": "KIND_GPU", "count": 1}]
    assert model.config["optimization"] == {"cuda": {"graphs": True}}
    (flagged,) = lay_out(package(version_compatible="on", cuda_graph="off"), "shop", 1)
    assert "version-compatible=true" in flagged.config["parameters"]["lathe.note"]["string_value"]
    assert "optimization" not in flagged.config
