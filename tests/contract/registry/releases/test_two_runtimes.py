"""An encoder and a decoder that compute in two runtimes: released, and held against machines, each by its own."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from lathe.registry.v1.release_service_pb2 import CheckCompatibilityRequest, Compatibility, Machine

from tests.contract.registry import samples
from tests.contract.registry.releases.desk import Desk
from tests.contract.registry.releases.test_command_line import Shell

(COMPONENT,) = json.loads(samples.manifest())["components"]
ENCODER = COMPONENT | {
    "name": "encoder",
    "entry": "encoder/model.xml",
    "files": ["encoder/model.xml", "encoder/model.bin"],
    "runtime": {"name": "openvino", "version": "2026.4.0"},
    "precision": "BF16",
}
DECODER = COMPONENT | {"name": "decoder", "entry": "decoder/net.onnx", "files": ["decoder/net.onnx"]}


@pytest.fixture(scope="module")
async def version(desk: Desk) -> str:
    return await desk.package(await desk.model(), components=[ENCODER, DECODER])


async def check(desk: Desk, version: str, **machine: Any) -> Compatibility:
    request = CheckCompatibilityRequest(model_version=version, machine=Machine(**machine))
    return await desk.releases.CheckCompatibility(request)


async def test_each_component_is_served_by_its_own_backend(desk: Desk, version: str) -> None:
    channel = await desk.channel(version.partition("/versions/")[0])
    await desk.promote(channel, version)
    name = channel.split("/")[1]
    encoder, decoder = f"{name}_encoder", f"{name}_decoder"
    assert await desk.shelf.paths(channel) == sorted(
        [
            f"{decoder}/1/model.onnx",
            f"{decoder}/config.pbtxt",
            f"{encoder}/1/model.bin",
            f"{encoder}/1/model.xml",
            f"{encoder}/config.pbtxt",
        ]
    )
    for model, form in ((encoder, ("openvino", "BF16", "2026.4.0")), (decoder, ("onnxruntime", "FP32", "1.31.1"))):
        config = await desk.shelf.config(channel, model)
        told = [config.parameters[f"lathe.{key}"].string_value for key in ("precision", "runtime_version")]
        assert (config.backend, *told) == form


async def test_a_machine_needs_every_runtime_of_a_package(desk: Desk, version: str) -> None:
    versions = {"openvino": "2026.4.0", "onnxruntime": "1.31.1"}
    flags = ["avx512_bf16"]
    found = await check(desk, version, device="cpu-x86-64", runtime_versions=versions, cpu_flags=flags)
    assert found.compatible
    assert (
        "The machine has openvino 2026.4.0, component 'encoder' was verified with 2026.4.0: the same." in found.checks
    )
    assert "The machine has onnxruntime 1.31.1, component 'decoder' was verified with 1.31.1: the same." in found.checks
    old = await check(desk, version, runtime_versions=versions | {"openvino": "2025.1"})
    assert [reason.split(",")[0] for reason in old.reasons] == ["The machine has openvino 2025.1"]
    plain = await check(desk, version, cpu_flags=["sse"])
    assert ["for BF16" in reason for reason in plain.reasons] == [True]


async def test_a_version_has_to_name_its_runtime_if_there_are_several(desk: Desk, version: str) -> None:
    for machine in ({"runtime_version": "1.31.1"}, {"runtime_versions": {"tensorrt": "10"}}):
        refused = await desk.refused(check(desk, version, **machine))
        assert (refused.code, refused.fields[0][0]) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "machine.runtime_versions",
        )
        assert "onnxruntime, openvino" in refused.message


async def test_the_command_line_takes_a_version_by_name(desk: Desk, version: str) -> None:
    shell = Shell(desk.address)
    name = version.removeprefix("models/").replace("/versions/", "/")
    told = await shell.run(
        "check-compatibility", name, "--runtime-version", "openvino=2026.5", "--runtime-version", "onnxruntime=1.40"
    )
    assert "openvino 2026.5" in " ".join(told.stdout.split())
    assert "NAME=VERSION" in await shell.refusal(
        "check-compatibility", name, "--runtime-version", "1", "--runtime-version", "2"
    )
