"""Promotions: what they lay out, what they write down, and that they take turns."""

from __future__ import annotations

import asyncio
import json
import uuid

import grpc
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PTH, ModelVersion
from lathe.registry.v1.release_service_pb2 import RELEASE_KIND_PROMOTION, GetReleaseRequest, ListReleasesRequest
from lathe.type.v1.view_pb2 import VIEW_FULL

from tests.contract.registry import samples
from tests.contract.registry.releases.desk import Desk


async def test_a_promotion_lays_the_package_out_and_records_who_and_when(desk: Desk) -> None:
    model = await desk.model()
    channel, version = await desk.channel(model), await desk.package(model)
    name = model.split("/")[1]
    before = await desk.get(channel)
    assert (before.current_release, before.current_version) == ("", "")
    made = await desk.promote(channel, version, note="It is better.")
    assert (made.name, made.model_version, made.kind) == (f"{channel}/releases/1", version, RELEASE_KIND_PROMOTION)
    assert (made.note, made.owner, made.previous_release) == ("It is better.", "anonymous", "")
    assert made.create_time.seconds
    assert made.uid
    assert made.repository_uri == f"s3://{desk.shelf.bucket.name}/triton/{name}/production"
    assert [file.path for file in made.files] == [f"{name}/1/model.onnx", f"{name}/config.pbtxt"]
    after = await desk.get(channel)
    assert (after.current_release, after.current_version) == (made.name, version)
    assert after.etag != before.etag
    assert after.repository_uri == made.repository_uri
    assert await desk.shelf.paths(channel) == [f"{name}/1/model.onnx", f"{name}/config.pbtxt"]
    assert await desk.shelf.read(channel, f"{name}/1/model.onnx") == samples.onnx_model()
    assert not await desk.shelf.marked(channel)
    assert await desk.releases.GetRelease(GetReleaseRequest(name=made.name)) == made
    assert await desk.history(channel) == [made]


async def test_the_configuration_follows_the_manifest(desk: Desk) -> None:
    channel, versions = await desk.released(1)
    config = await desk.shelf.config(channel)
    assert (config.name, config.backend, config.max_batch_size) == (channel.split("/")[1], "onnxruntime", 8)
    assert [(each.name, list(each.dims)) for each in (*config.input, *config.output)] == [("x", [3]), ("y", [3])]
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert list(config.version_policy.specific.versions) == [1]
    assert config.parameters["lathe.package"].string_value == versions[0]
    assert config.parameters["lathe.shape_profile.x"].string_value == "min=1x3 opt=1x3 max=8x3"


async def test_each_component_is_a_model_of_its_own(desk: Desk) -> None:
    model = await desk.model()
    channel, single = await desk.channel(model), await desk.package(model)
    one = json.loads(samples.manifest())["components"][0]
    parts = [one | {"name": part, "entry": f"{part}/net.onnx", "files": [f"{part}/net.onnx"]} for part in ("a", "b")]
    double = await desk.package(model, components=parts)
    name = model.split("/")[1]
    await desk.promote(channel, double)
    assert await desk.shelf.paths(channel) == [
        path for part in ("a", "b") for path in (f"{name}_{part}/1/model.onnx", f"{name}_{part}/config.pbtxt")
    ]
    assert (await desk.shelf.config(channel, f"{name}_b")).name == f"{name}_b"
    # What the current release does not have would be served on.
    await desk.promote(channel, single)
    assert await desk.shelf.paths(channel) == [f"{name}/2/model.onnx", f"{name}/config.pbtxt"]


async def test_openvino_files_and_labels_get_the_names_that_triton_looks_for(desk: Desk) -> None:
    model = await desk.model()
    channel = await desk.channel(model)
    one = json.loads(samples.manifest())["components"][0]
    files = ["main/net.bin", "main/net.xml"]
    version = await desk.package(
        model,
        runtime={"name": "openvino", "version": "2026.4.0"},
        method="classification",
        taxonomies=[{"task": "animal", "classes": ["cat", "big\ndog", "bird"]}],
        components=[one | {"entry": "main/net.xml", "files": files, "options": {"INFERENCE_PRECISION_HINT": "bf16"}}],
    )
    await desk.promote(channel, version)
    name = model.split("/")[1]
    names = ["1/model.bin", "1/model.xml", "config.pbtxt", "labels-1-0.txt"]
    assert await desk.shelf.paths(channel) == [f"{name}/{path}" for path in names]
    assert await desk.shelf.read(channel, f"{name}/1/model.bin") == b"main/net.bin"
    assert await desk.shelf.read(channel, f"{name}/labels-1-0.txt") == b"cat\nbig dog\nbird\n"
    config = await desk.shelf.config(channel)
    assert (config.backend, config.output[0].label_filename) == ("openvino", "labels-1-0.txt")
    assert config.parameters["HINT_BF16"].string_value == "YES"
    assert config.parameters["ENABLE_BATCH_PADDING"].string_value == "YES"


async def test_the_folders_of_old_releases_are_swept(desk: Desk) -> None:
    channel, versions = await desk.released(2)
    for number in range(3, 8):
        made = await desk.promote(channel, versions[number % 2])
        assert made.previous_release == f"{channel}/releases/{number - 1}"
    name = channel.split("/")[1]
    kept = [f"{name}/{number}/model.onnx" for number in range(3, 8)]
    assert await desk.shelf.paths(channel) == [*kept, f"{name}/config.pbtxt"]
    assert await desk.shelf.served(channel) == [7]


async def test_a_repeat_returns_the_first_release(desk: Desk) -> None:
    channel, versions = await desk.released(2)
    again = {"request_id": str(uuid.uuid4())}
    first = await desk.promote(channel, versions[0], **again)
    assert await desk.promote(channel, versions[0], **again) == first
    reused = await desk.refused(desk.promote(channel, versions[1], **again))
    assert (reused.code, reused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert len(await desk.history(channel)) == 3


async def test_promotions_at_once_take_turns(desk: Desk) -> None:
    channel, versions = await desk.released(2)
    await asyncio.gather(*(desk.promote(channel, versions[number % 2]) for number in range(6)))
    history = await desk.history(channel)
    assert [release.name for release in history] == [f"{channel}/releases/{number}" for number in range(8, 0, -1)]
    assert [release.previous_release for release in history] == [release.name for release in history[1:]] + [""]
    assert (await desk.get(channel)).current_release == history[0].name
    assert await desk.shelf.served(channel) == [8]


async def test_histories_come_in_pages(desk: Desk) -> None:
    channel, versions = await desk.released(1)
    for _ in range(4):
        await desk.promote(channel, versions[0])
    seen, token = [], ""
    while True:
        request = ListReleasesRequest(parent=channel, page_size=2, page_token=token)
        page = await desk.releases.ListReleases(request)
        seen += [release.name.rsplit("/", 1)[1] for release in page.releases]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["5", "4", "3", "2", "1"]
    mine = "kind = PROMOTION AND owner != nobody AND create_time > 2020-01-01 AND number < 3"
    narrowed = ListReleasesRequest(parent=channel, filter=mine, order_by="number")
    page = await desk.releases.ListReleases(narrowed)
    assert [release.name.rsplit("/", 1)[1] for release in page.releases] == ["1", "2"]
    assert not any(release.files for release in page.releases)
    narrowed.view = VIEW_FULL
    whole = await desk.releases.ListReleases(narrowed)
    assert list(whole.releases) == [
        await desk.releases.GetRelease(GetReleaseRequest(name=each.name)) for each in page.releases
    ]
    absent = ListReleasesRequest(parent=f"{channel}x")
    assert (await desk.refused(desk.releases.ListReleases(absent))).code is grpc.StatusCode.NOT_FOUND


async def test_versions_that_cannot_be_promoted_are_refused(desk: Desk) -> None:
    model, other = await desk.model(), await desk.model()
    channel, foreign = await desk.channel(model), await desk.package(other)
    weights = await desk.registry.version(
        model, ModelVersion(format=MODEL_FORMAT_PTH, files=[await desk.registry.file("a.pth", samples.state_dict())])
    )
    absent = await desk.refused(desk.promote(f"{model}/channels/none", f"{model}/versions/1"))
    assert (absent.code, absent.resource) == (grpc.StatusCode.NOT_FOUND, ("channel", f"{model}/channels/none"))
    absent = await desk.refused(desk.promote(channel, f"{model}/versions/99"))
    assert (absent.code, absent.resource) == (
        grpc.StatusCode.NOT_FOUND,
        ("model version", f"{model}/versions/99"),
    )
    wrong = await desk.refused(desk.promote(channel, foreign))
    assert (wrong.code, wrong.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "model_version")
    wrong = await desk.refused(desk.promote(channel, weights.name))
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_A_PACKAGE")
    assert "is PTH" in wrong.message
    ascend = await desk.package(model, runtime={"name": "ascend", "version": "8.0"})
    wrong = await desk.refused(desk.promote(channel, ascend))
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_SERVABLE")
    assert "onnxruntime, openvino" in wrong.message
    assert await desk.history(channel) == []
    assert await desk.shelf.paths(channel) == []
