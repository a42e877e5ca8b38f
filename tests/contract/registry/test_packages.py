"""Packages: named by their fields, described by their manifest, from users and from tasks."""

import grpc
import pytest
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_PACKAGE,
    MODEL_FORMAT_PTH,
    DescribeModelVersionRequest,
    Lineage,
    ListModelVersionsRequest,
    ModelVersion,
    PackageInfo,
)
from lathe.type.v1.digest_pb2 import File
from lathe.type.v1.measurement_pb2 import VERDICT_PASS, ParityReport
from lathe.type.v1.precision_pb2 import PRECISION_BF16, PRECISION_FP32

from tests.contract.registry import samples
from tests.contract.registry.conftest import Registry


@pytest.fixture
async def files(registry: Registry) -> list[File]:
    return [
        await registry.file("manifest.json", samples.manifest()),
        await registry.file("main/model.onnx", samples.onnx_model()),
    ]


def _info(**fields: str) -> PackageInfo:
    info = PackageInfo(repo="vision", package_name="digits", method="classify", version="1.2")
    for name, value in fields.items():
        setattr(info, name, value)
    return info


async def test_a_direct_upload_is_named_by_its_fields(registry: Registry, model: str, files: list[File]) -> None:
    wanted = ModelVersion(
        format=MODEL_FORMAT_PACKAGE,
        files=files,
        package=_info(template="templates/pth-cpu"),
        parity={"main": ParityReport(verdict=VERDICT_PASS)},
    )
    made = await registry.version(model, wanted)
    assert made.package.file_name == "vision_digits_classify_1.2.tar"
    assert made.package.directly_uploaded
    assert (made.package.device, made.package.runtime, made.package.precision) == (
        "cpu-x86-64",
        "onnxruntime",
        PRECISION_FP32,
    )
    assert not made.parity, "what an uploader says of parity is not believed"
    found = await registry.models.DescribeModelVersion(DescribeModelVersionRequest(name=made.name))
    assert [(graph.component, graph.path) for graph in found.graphs] == [("main", "main/model.onnx")]
    assert [each.name for each in found.graphs[0].signature.inputs] == ["x"]


async def test_a_task_registers_what_it_measured(registry: Registry, model: str, files: list[File]) -> None:
    source = await registry.version(
        model, ModelVersion(format=MODEL_FORMAT_PTH, files=[await registry.file("a.pth", samples.state_dict())])
    )
    wanted = ModelVersion(
        format=MODEL_FORMAT_PACKAGE,
        files=files,
        package=_info(),
        parity={"main": ParityReport(verdict=VERDICT_PASS)},
        lineage=Lineage(sources=[source.name], task="conversionTasks/1"),
    )
    made = await registry.version(model, wanted)
    assert not made.package.directly_uploaded
    assert made.parity["main"].verdict == VERDICT_PASS


async def test_packages_are_found_by_device_and_name(registry: Registry, model: str, files: list[File]) -> None:
    made = await registry.version(model, ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files, package=_info()))
    for query, count in (
        (ListModelVersionsRequest(parent=model, filter="device = cpu-x86-64"), 1),
        (ListModelVersionsRequest(parent=model, filter="device = cpu-arm64"), 0),
        (ListModelVersionsRequest(parent=model, filter="format = PACKAGE"), 1),
        (ListModelVersionsRequest(parent=model, filter="format = MODEL_FORMAT_PTH"), 0),
        (ListModelVersionsRequest(parent=model, search="digits classify"), 1),
        (ListModelVersionsRequest(parent=model, search="segment"), 0),
    ):
        page = await registry.models.ListModelVersions(query)
        assert [each.name for each in page.model_versions] == [made.name] * count


async def test_what_a_package_lacks_is_told(registry: Registry, model: str, files: list[File]) -> None:
    cases = [
        (ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files), "model_version.package"),
        (
            ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files, package=_info(method="")),
            "model_version.package.method",
        ),
        (
            ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files, package=_info(repo="a b")),
            "model_version.package.repo",
        ),
        (
            ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files, package=_info(template="x")),
            "model_version.package.template",
        ),
        (
            ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files, package=_info(device="cpu-arm64")),
            "model_version.package.device",
        ),
        (ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files[1:], package=_info()), "model_version.files"),
        (ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files[:1], package=_info()), "model_version.files"),
    ]
    for version, field in cases:
        refused = await registry.refused(registry.version(model, version))
        assert (refused.code, refused.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    wrong_precision = ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files, package=_info())
    wrong_precision.package.precision = PRECISION_BF16
    refused = await registry.refused(registry.version(model, wrong_precision))
    assert "'FP32'" in refused.message
