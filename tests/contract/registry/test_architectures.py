"""Architectures are read, never run; each refusal names the field, the line and what to do."""

import asyncio
import uuid

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.registry.v1.architecture_service_pb2 import (
    CERTIFICATION_CERTIFIED,
    CERTIFICATION_UNCERTIFIED,
    Architecture,
    CreateArchitectureRequest,
    DeleteArchitectureRequest,
    GetArchitectureRequest,
    ListArchitecturesRequest,
    UpdateArchitectureRequest,
)
from lathe.registry.v1.artifact_service_pb2 import GetDownloadRequest

from tests.contract.registry.conftest import Registry, new_architecture, source_of, unique_class


async def test_an_architecture_is_read_and_stored(registry: Registry) -> None:
    wanted = new_architecture(config="num_classes: 10\n")
    wanted.file_name = "netz ä.py"
    made = await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=wanted))
    assert made.name == f"architectures/{wanted.class_name.lower()}"
    assert (made.function, made.certification, made.owner) == ("build", CERTIFICATION_UNCERTIFIED, "anonymous")
    assert made.uid
    assert made.etag
    assert made.digest
    got = await registry.architectures.GetArchitecture(GetArchitectureRequest(name=made.name))
    assert got == made
    assert (got.source, got.config, got.file_name) == (wanted.source, wanted.config, "netz ä.py")
    download = await registry.artifacts.GetDownload(GetDownloadRequest(name=f"artifacts/{made.source_digest.sha256}"))
    assert (await registry.http.get(download.url)).text == wanted.source


@pytest.mark.parametrize("mask", ["source", "*"])
async def test_a_changed_source_is_stored_whatever_mask_names_it(registry: Registry, mask: str) -> None:
    wanted = new_architecture()
    made = await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=wanted))
    wanted.name, wanted.source = made.name, f"{wanted.source}\n# {mask}\n"
    request = UpdateArchitectureRequest(architecture=wanted, update_mask=FieldMask(paths=[mask]))
    changed = await registry.architectures.UpdateArchitecture(request)
    name = f"artifacts/{changed.source_digest.sha256}"
    download = await registry.artifacts.GetDownload(GetDownloadRequest(name=name))
    assert (await registry.http.get(download.url)).text == wanted.source


async def test_output_fields_are_not_taken_from_the_caller(registry: Registry) -> None:
    wanted = new_architecture()
    wanted.certification, wanted.certified_by, wanted.function, wanted.digest = CERTIFICATION_CERTIFIED, "me", "f", "0"
    made = await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=wanted))
    assert (made.certification, made.certified_by, made.function) == (CERTIFICATION_UNCERTIFIED, "", "build")
    assert made.digest != "0"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"source": "def build(:\n    pass\n"}, "architecture.source", "line 1"),
        ({"source": "import torch\n\n\ndef build():\n    return torch\n"}, "architecture.source", "line 4"),
        ({"source": "x = 1\n"}, "architecture.source", "no top-level function"),
        ({"source": '@architecture("Other")\ndef build():\n    return 1\n'}, "architecture.class_name", "'Other'"),
        ({"class_name": "1st"}, "architecture.class_name", "1st"),
        ({"class_name": ""}, "architecture.class_name", ""),
        ({"display_name": "n" * 101}, "architecture.display_name", "100"),
        ({"file_name": "../net.py"}, "architecture.file_name", "must be the name of a file alone"),
        ({"file_name": "-rf"}, "architecture.file_name", "must be the name of a file alone"),
        ({"file_name": "net\n.py"}, "architecture.file_name", "must be the name of a file alone"),
        ({"config": "- a\n"}, "architecture.config", "mapping"),
        ({"config": "a: [\n"}, "architecture.config", "line 2"),
    ],
)
async def test_what_is_wrong_is_named(registry: Registry, fields: dict[str, str], field: str, words: str) -> None:
    wanted = new_architecture()
    for name, value in fields.items():
        setattr(wanted, name, value)
    wrong = await registry.refused(
        registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=wanted))
    )
    assert wrong.code is grpc.StatusCode.INVALID_ARGUMENT
    assert wrong.fields[0][0] == field
    assert words in wrong.fields[0][1]


async def test_a_class_name_and_a_display_name_are_taken_once(registry: Registry) -> None:
    first = await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=new_architecture()))
    same_class = new_architecture(class_name=first.class_name)
    clash = await registry.refused(
        registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=same_class))
    )
    assert (clash.code, clash.fields[0][0]) == (grpc.StatusCode.ALREADY_EXISTS, "class_name")
    assert first.class_name in clash.message
    assert first.name in clash.message
    same_name = new_architecture(display_name=first.display_name)
    clash = await registry.refused(
        registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=same_name))
    )
    assert (clash.code, clash.fields[0][0]) == (grpc.StatusCode.ALREADY_EXISTS, "display_name")


async def test_of_equal_creations_at_once_one_wins(registry: Registry) -> None:
    request = CreateArchitectureRequest(architecture=new_architecture())
    results = await asyncio.gather(
        *(registry.architectures.CreateArchitecture(request) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, Architecture) for result in results) == 1
    codes = {result.code() for result in results if isinstance(result, grpc.aio.AioRpcError)}
    assert codes == {grpc.StatusCode.ALREADY_EXISTS}


async def test_the_same_request_id_creates_once(registry: Registry) -> None:
    request = CreateArchitectureRequest(architecture=new_architecture(), request_id=str(uuid.uuid4()))
    first, second = await asyncio.gather(*(registry.architectures.CreateArchitecture(request) for _ in range(2)))
    assert first == second
    request.architecture.description = "another"
    reused = await registry.refused(registry.architectures.CreateArchitecture(request))
    assert (reused.code, reused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_lists_hold_no_sources_and_can_be_filtered(registry: Registry) -> None:
    label = unique_class("l").lower()
    names = []
    for _ in range(5):
        request = CreateArchitectureRequest(architecture=new_architecture(labels={label: "x"}))
        names.append((await registry.architectures.CreateArchitecture(request)).name)
    query = ListArchitecturesRequest(
        filter=f"labels.{label} = x AND certification = UNCERTIFIED", page_size=2, order_by="create_time"
    )
    found = []
    while True:
        page = await registry.architectures.ListArchitectures(query)
        assert all(not each.source and not each.config and each.digest for each in page.architectures)
        found += [each.name for each in page.architectures]
        query.page_token = page.next_page_token
        if not query.page_token:
            break
    assert found == names
    certified = ListArchitecturesRequest(filter=f"labels.{label} = x AND certification = CERTIFIED")
    assert not (await registry.architectures.ListArchitectures(certified)).architectures
    searched = ListArchitecturesRequest(search=names[2].removeprefix("architectures/").upper())
    assert [each.name for each in (await registry.architectures.ListArchitectures(searched)).architectures] == [
        names[2]
    ]


async def test_a_changed_source_is_checked_and_digested_again(registry: Registry) -> None:
    made = await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=new_architecture()))
    described = Architecture(name=made.name, description="d", source="nonsense(", etag=made.etag)
    request = UpdateArchitectureRequest(architecture=described, update_mask=FieldMask(paths=["description"]))
    updated = await registry.architectures.UpdateArchitecture(request)
    assert (updated.description, updated.source, updated.digest) == ("d", made.source, made.digest)

    stale = await registry.refused(registry.architectures.UpdateArchitecture(request))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")

    request = UpdateArchitectureRequest(
        architecture=Architecture(name=made.name, source="nonsense("), update_mask=FieldMask(paths=["source"])
    )
    wrong = await registry.refused(registry.architectures.UpdateArchitecture(request))
    assert wrong.fields[0][0] == "architecture.source"

    name = unique_class()
    request.architecture.source, request.architecture.class_name = source_of(name, "make"), name
    request.update_mask.paths.append("class_name")
    changed = await registry.architectures.UpdateArchitecture(request)
    assert (changed.function, changed.class_name, changed.certification) == ("make", name, CERTIFICATION_UNCERTIFIED)
    assert changed.digest != made.digest
    assert await registry.architectures.GetArchitecture(GetArchitectureRequest(name=made.name)) == changed


@pytest.mark.parametrize(
    ("paths", "fields", "field"),
    [
        (["owner"], {}, "update_mask"),
        (["nothing"], {}, "update_mask"),
        (["display_name"], {"display_name": ""}, "architecture.display_name"),
        (["labels"], {"labels": {"Bad Key": "x"}}, "architecture.labels"),
    ],
)
async def test_a_change_is_validated(registry: Registry, paths: list[str], fields: dict[str, str], field: str) -> None:
    made = await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=new_architecture()))
    request = UpdateArchitectureRequest(
        architecture=Architecture(name=made.name, **fields),  # type: ignore[arg-type]  # one of several types
        update_mask=FieldMask(paths=paths),
    )
    wrong = await registry.refused(registry.architectures.UpdateArchitecture(request))
    assert wrong.code is grpc.StatusCode.INVALID_ARGUMENT
    assert wrong.fields[0][0].startswith(field)


async def test_a_rename_to_a_taken_name_is_refused(registry: Registry) -> None:
    first, second = [
        await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=new_architecture()))
        for _ in range(2)
    ]
    request = UpdateArchitectureRequest(
        architecture=Architecture(name=first.name, display_name=second.display_name),
        update_mask=FieldMask(paths=["display_name"]),
    )
    clash = await registry.refused(registry.architectures.UpdateArchitecture(request))
    assert (clash.code, clash.fields[0][0]) == (grpc.StatusCode.ALREADY_EXISTS, "display_name")


async def test_deletion_is_guarded_by_the_etag(registry: Registry) -> None:
    made = await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=new_architecture()))
    stale = await registry.refused(
        registry.architectures.DeleteArchitecture(DeleteArchitectureRequest(name=made.name, etag='"0"'))
    )
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await registry.architectures.DeleteArchitecture(DeleteArchitectureRequest(name=made.name, etag=made.etag))
    for call in (
        registry.architectures.GetArchitecture(GetArchitectureRequest(name=made.name)),
        registry.architectures.DeleteArchitecture(DeleteArchitectureRequest(name=made.name)),
    ):
        assert (await registry.refused(call)).code is grpc.StatusCode.NOT_FOUND
