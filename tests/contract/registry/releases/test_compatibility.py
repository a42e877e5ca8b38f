"""CheckCompatibility: yes or no, with the reasons."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PTH, ModelVersion
from lathe.registry.v1.release_service_pb2 import CheckCompatibilityRequest, Compatibility, Machine

from tests.contract.registry import samples
from tests.contract.registry.releases.desk import Desk


@pytest.fixture(scope="module")
async def package(desk: Desk) -> str:
    return await desk.package(await desk.model())


async def check(desk: Desk, version: str, **machine: Any) -> Compatibility:
    request = CheckCompatibilityRequest(model_version=version, machine=Machine(**machine))
    return await desk.releases.CheckCompatibility(request)


async def test_a_machine_can_or_cannot_run_a_package(desk: Desk, package: str) -> None:
    same = await check(desk, package, device="cpu-x86-64", runtime_version="1.31.1")
    assert same.compatible
    assert list(same.reasons) == []
    assert "The machine has onnxruntime 1.31.1, the package was verified with 1.31.1: the same." in same.checks
    other = await check(desk, package, device="cpu-arm64", runtime_version="1.20.0")
    assert not other.compatible
    assert len(other.reasons) == 2
    assert (await check(desk, package)).compatible


async def test_a_machine_or_version_that_cannot_be_checked_is_refused(desk: Desk, package: str) -> None:
    unknown = await desk.refused(check(desk, package, device="cpu"))
    assert (unknown.code, unknown.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "machine.device")
    assert "there are cpu-x86-64, cpu-arm64" in unknown.message
    unreadable = await desk.refused(check(desk, package, runtime_version="newest"))
    assert unreadable.fields[0][0] == "machine.runtime_version"
    nothing = await desk.refused(desk.releases.CheckCompatibility(CheckCompatibilityRequest(model_version=package)))
    assert nothing.fields[0][0] == "machine"
    absent = await desk.refused(check(desk, "models/none/versions/1"))
    assert absent.code is grpc.StatusCode.NOT_FOUND
    file = await desk.registry.file("a.pth", samples.state_dict())
    weights = await desk.registry.version(await desk.model(), ModelVersion(format=MODEL_FORMAT_PTH, files=[file]))
    refused = await desk.refused(check(desk, weights.name))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_A_PACKAGE")
