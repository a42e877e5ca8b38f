"""A version is what its format says, or it is not created; its number has no gap and no double."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from lathe.registry.v1.architecture_service_pb2 import CreateArchitectureRequest
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_CAFFE,
    MODEL_FORMAT_DETECTRON2,
    MODEL_FORMAT_FROZEN_GRAPH,
    MODEL_FORMAT_HUGGINGFACE,
    MODEL_FORMAT_ONNX,
    MODEL_FORMAT_PACKAGE,
    MODEL_FORMAT_PTH,
    MODEL_FORMAT_SAVED_MODEL,
    MODEL_FORMAT_TORCHSCRIPT,
    CreateModelVersionRequest,
    DescribeModelVersionRequest,
    GetModelRequest,
    GetModelVersionRequest,
    Lineage,
    ListModelVersionsRequest,
    ModelDescription,
    ModelFormat,
    ModelVersion,
    PackageInfo,
)
from lathe.type.v1.digest_pb2 import Digest, File

from engines.formats import FORMATS
from services.registry.descriptions import Describer
from tests.contract.registry import samples
from tests.contract.registry.conftest import Registry, digest_of, new_architecture


async def test_a_state_dict_becomes_a_described_version(registry: Registry, model: str) -> None:
    architecture = await registry.architectures.CreateArchitecture(
        CreateArchitectureRequest(architecture=new_architecture())
    )
    data = samples.state_dict(5)
    wanted = ModelVersion(
        format=MODEL_FORMAT_PTH, files=[await registry.file("weights/best.pth", data)], architecture=architecture.name
    )
    made = await registry.version(model, wanted)
    assert made.name == f"{model}/versions/1"
    assert (made.display_name, made.size_bytes, made.architecture) == ("Model 1", len(data), architecture.name)
    assert await registry.models.GetModelVersion(GetModelVersionRequest(name=made.name)) == made

    found = await registry.models.DescribeModelVersion(DescribeModelVersionRequest(name=made.name))
    assert (found.model_version, found.format, found.parameter_count, found.size_bytes) == (
        made.name,
        MODEL_FORMAT_PTH,
        20,
        len(data),
    )
    graph = found.graphs[0]
    assert graph.path == "weights/best.pth"
    assert {(each.name, each.dtype, tuple(each.shape.max)) for each in graph.parameters} == {
        ("fc.weight", "float32", (5, 3)),
        ("fc.bias", "float32", (5,)),
    }
    assert '"fc.weight"' in found.json


async def test_an_onnx_model_is_described(registry: Registry, model: str) -> None:
    made = await registry.version(
        model, ModelVersion(format=MODEL_FORMAT_ONNX, files=[await registry.file("m.onnx", samples.onnx_model())])
    )
    found = await registry.models.DescribeModelVersion(DescribeModelVersionRequest(name=made.name))
    graph = found.graphs[0]
    assert [(each.operator, each.count) for each in graph.operators] == [("Relu", 1)]
    assert [(each.name, each.dtype) for each in graph.signature.inputs] == [("x", "float32")]


@pytest.mark.parametrize("make", [samples.plain_pickle_with_code, samples.checkpoint_with_code])
async def test_code_in_a_checkpoint_is_refused_and_not_run(registry: Registry, model: str, make: object) -> None:
    assert callable(make)
    wanted = ModelVersion(format=MODEL_FORMAT_PTH, files=[await registry.file("a.pth", make())])
    refused = await registry.refused(registry.version(model, wanted))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNSAFE_MODEL")
    assert "system" in refused.message
    assert not samples.WITNESS.exists()


@pytest.mark.parametrize(
    ("version_format", "data"),
    [
        (MODEL_FORMAT_PTH, lambda: samples.state_dict()[:-200]),
        (MODEL_FORMAT_PTH, samples.onnx_model),
        (MODEL_FORMAT_PTH, lambda: b""),
        (MODEL_FORMAT_PTH, lambda: b"<html>404</html>"),
        (MODEL_FORMAT_ONNX, lambda: samples.onnx_model()[:-20]),
        (MODEL_FORMAT_ONNX, samples.state_dict),
    ],
    ids=["truncated", "onnx as pth", "empty", "html", "truncated onnx", "pth as onnx"],
)
async def test_a_file_that_is_something_else_is_refused(
    registry: Registry, model: str, version_format: object, data: object
) -> None:
    assert callable(data)
    wanted = ModelVersion(format=version_format, files=[await registry.file("f", data())])  # type: ignore[arg-type]
    refused = await registry.refused(registry.version(model, wanted))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MODEL")
    assert refused.fields[0][0] == "model_version.files"
    assert (await registry.models.GetModel(GetModelRequest(name=model))).version_count == 0


async def test_files_must_be_stored(registry: Registry, model: str) -> None:
    stored = await registry.file("a.pth", samples.state_dict())
    wrong_size = File(path="b", digest=Digest(sha256=stored.digest.sha256, size_bytes=1))
    for file in (File(path="gone.pth", digest=digest_of(b"never uploaded")), wrong_size):
        refused = await registry.refused(
            registry.version(model, ModelVersion(format=MODEL_FORMAT_PTH, files=[stored, file]))
        )
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BLOB_NOT_FOUND")
        assert file.path in refused.message


@pytest.mark.parametrize(
    ("reference", "field"),
    [
        (ModelVersion(architecture="architectures/no"), "model_version.architecture"),
        (ModelVersion(lineage=Lineage(sources=["models/no/versions/1"])), "model_version.lineage.sources"),
    ],
)
async def test_what_it_refers_to_must_exist(
    registry: Registry, model: str, reference: ModelVersion, field: str
) -> None:
    version = ModelVersion(format=MODEL_FORMAT_PTH, files=[await registry.file("a.pth", samples.state_dict())])
    version.MergeFrom(reference)
    refused = await registry.refused(registry.version(model, version))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "REFERENCE_NOT_FOUND")
    assert refused.fields[0][0] == field


async def test_what_contradicts_itself_is_refused(registry: Registry, model: str) -> None:
    file = await registry.file("a.pth", samples.state_dict())
    below = File(path="a.pth/b", digest=file.digest)
    cases = [
        (ModelVersion(format=MODEL_FORMAT_PTH, files=[file, file]), "model_version.files"),
        (ModelVersion(format=MODEL_FORMAT_PTH, files=[file, below]), "model_version.files"),
        (
            ModelVersion(format=MODEL_FORMAT_PTH, files=[File(path="../a", digest=file.digest)]),
            "model_version.files[0].path",
        ),
        (
            ModelVersion(format=MODEL_FORMAT_PTH, files=[File(path="a" * 256, digest=file.digest)]),
            "model_version.files",
        ),
        (ModelVersion(format=MODEL_FORMAT_PTH, files=[File(path="a\0b", digest=file.digest)]), "model_version.files"),
        (ModelVersion(format=MODEL_FORMAT_PTH), "model_version.files"),
        (ModelVersion(files=[file]), "model_version.format"),
        (ModelVersion(format=MODEL_FORMAT_PTH, files=[file], package=PackageInfo(repo="r")), "model_version.package"),
        (
            ModelVersion(format=MODEL_FORMAT_ONNX, files=[file], architecture="architectures/no"),
            "model_version.architecture",
        ),
        (
            ModelVersion(format=MODEL_FORMAT_PTH, files=[file], lineage=Lineage(sources=["models/no"])),
            "model_version.lineage.sources[0]",
        ),
        (
            ModelVersion(format=MODEL_FORMAT_PTH, files=[file], lineage=Lineage(template="t")),
            "model_version.lineage.template",
        ),
        (ModelVersion(format=MODEL_FORMAT_PTH, files=[file], lineage=Lineage(task="t")), "model_version.lineage.task"),
        (
            ModelVersion(format=MODEL_FORMAT_PTH, files=[file], lineage=Lineage(task="conversionTasks/" + "x" * 5000)),
            "model_version.lineage.task",
        ),
        (
            ModelVersion(
                format=MODEL_FORMAT_PTH, files=[file], lineage=Lineage(architectures={"architectures/a": "no digest"})
            ),
            "model_version.lineage.architectures",
        ),
        (
            ModelVersion(format=MODEL_FORMAT_PACKAGE, files=[file], package=PackageInfo(template="models/x")),
            "model_version.package",
        ),
    ]
    for version, field in cases:
        refused = await registry.refused(registry.version(model, version))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields[0][0].startswith(field)
    assert (await registry.models.GetModel(GetModelRequest(name=model))).version_count == 0


async def test_a_directory_becomes_a_described_version(registry: Registry, model: str) -> None:
    header = b'{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
    weights = len(header).to_bytes(8, "little") + header + bytes(24)
    files = [
        await registry.file("config.json", b'{"model_type": "bert", "architectures": ["BertModel"]}'),
        await registry.file("model.safetensors", weights),
    ]
    made = await registry.version(model, ModelVersion(format=MODEL_FORMAT_HUGGINGFACE, files=files))
    found = await registry.models.DescribeModelVersion(DescribeModelVersionRequest(name=made.name))
    assert (found.parameter_count, found.graphs[0].metadata["architectures"]) == (6, "BertModel")


@pytest.mark.parametrize(
    ("wanted", "data", "reason", "words"),
    [
        (
            (MODEL_FORMAT_HUGGINGFACE, "config.json"),
            b'{"auto_map": {"AutoModel": "m.Net"}}',
            "UNSAFE_MODEL",
            "asks for code",
        ),
        (
            (MODEL_FORMAT_FROZEN_GRAPH, "g.pbtxt"),
            b'node { name: "n" op: "PyFunc" }',
            "UNSAFE_MODEL",
            "'n' in 'g.pbtxt' is a PyFunc",
        ),
        ((MODEL_FORMAT_FROZEN_GRAPH, "g.pb"), b"", "INVALID_MODEL", "it is empty"),
        ((MODEL_FORMAT_SAVED_MODEL, "readme.txt"), b"hello", "INVALID_MODEL", "looks like a text file"),
        ((MODEL_FORMAT_TORCHSCRIPT, "m.pt"), b"\x80\x02}q\x00.", "INVALID_MODEL", "looks like a Python pickle"),
    ],
)
async def test_files_of_another_kind_are_refused(
    wanted: tuple[ModelFormat.ValueType, str], data: bytes, reason: str, words: str, registry: Registry
) -> None:
    version = ModelVersion(format=wanted[0], files=[await registry.file(wanted[1], data)])
    refused = await registry.refused(registry.version(await registry.model(), version))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert words in refused.message


@pytest.mark.parametrize(
    ("kind", "words"), [("InnerProduct", "weights of another net"), ("ROIPooling", "line 2 of 'deploy.prototxt'")]
)
async def test_a_pair_of_caffe_that_does_not_fit_is_told(registry: Registry, model: str, kind: str, words: str) -> None:
    text = f'input: "x" input_dim: 1 input_dim: 3\nlayer {{ name: "a" type: "{kind}" bottom: "x" top: "y" }}'
    weights = b"\xa2\x06\x03\x0a\x01b"
    files = [await registry.file("deploy.prototxt", text.encode()), await registry.file("n.caffemodel", weights)]
    refused = await registry.refused(registry.version(model, ModelVersion(format=MODEL_FORMAT_CAFFE, files=files)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MODEL")
    assert words in refused.message


async def test_formats_that_cannot_be_read_yet_are_told(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As clients of a later release meet them: this one reads all that its API names."""
    monkeypatch.delitem(FORMATS, "DETECTRON2")
    wanted = ModelVersion(format=MODEL_FORMAT_DETECTRON2, files=[await registry.file("net.pth", b"{}")])
    refused = await registry.refused(registry.version(model, wanted))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FORMAT_NOT_SUPPORTED_YET")
    assert "PTH" in refused.message


async def test_an_unknown_model_is_told(registry: Registry) -> None:
    file = await registry.file("a.pth", samples.state_dict())
    refused = await registry.refused(
        registry.version("models/nothing", ModelVersion(format=MODEL_FORMAT_PTH, files=[file]))
    )
    assert refused.code is grpc.StatusCode.NOT_FOUND


async def test_versions_created_at_once_are_numbered_without_gaps(registry: Registry, model: str) -> None:
    file = await registry.file("a.pth", samples.state_dict())
    made = await asyncio.gather(
        *(registry.version(model, ModelVersion(format=MODEL_FORMAT_PTH, files=[file])) for _ in range(6))
    )
    assert sorted(each.name for each in made) == [f"{model}/versions/{number}" for number in range(1, 7)]
    got = await registry.models.GetModel(GetModelRequest(name=model))
    assert (got.version_count, got.latest_version) == (6, f"{model}/versions/6")


async def test_the_same_request_id_creates_one_version_and_describes_it_once(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await registry.file("a.pth", samples.state_dict())
    request = CreateModelVersionRequest(
        parent=model, model_version=ModelVersion(format=MODEL_FORMAT_PTH, files=[file]), request_id=str(uuid.uuid4())
    )
    described = 0
    right = Describer.describe

    async def describe(self: Describer, *args: Any) -> ModelDescription:
        nonlocal described
        described += 1
        return await right(self, *args)

    monkeypatch.setattr(Describer, "describe", describe)
    first, *others = await asyncio.gather(*(registry.models.CreateModelVersion(request) for _ in range(12)))
    assert all(other == first for other in others)
    assert await registry.models.CreateModelVersion(request) == first
    assert described == 1
    listed = await registry.models.ListModelVersions(ListModelVersionsRequest(parent=model))
    assert [each.name for each in listed.model_versions] == [first.name]
    request.model_version.description = "another"
    reused = await registry.refused(registry.models.CreateModelVersion(request))
    assert (reused.code, reused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
