"""Uploads and downloads by signed requests: only bytes that were verified get a name, and they are stored once."""

import asyncio
import threading
import uuid
from itertools import count

import grpc
import pytest
from lathe.registry.v1.artifact_service_pb2 import (
    UPLOAD_STATE_ABORTED,
    UPLOAD_STATE_FINALIZED,
    UPLOAD_STATE_OPEN,
    UPLOAD_STATE_VERIFYING,
    CancelUploadRequest,
    CreateUploadRequest,
    FinalizeUploadRequest,
    GetArtifactRequest,
    GetDownloadRequest,
    GetUploadRequest,
    ListUploadsRequest,
    Upload,
    WatchUploadRequest,
)
from lathe.type.v1.failure_pb2 import FAILURE_REASON_INPUT_UNAVAILABLE

from services.storage.precedence import Precedence
from tests.contract.registry.conftest import Registry, digest_of, random_bytes

MIB = 1 << 20


async def test_bytes_come_back_as_they_went_in(registry: Registry) -> None:
    data = random_bytes(200_000)
    digest = await registry.store(data)
    assert digest == digest_of(data)
    download = await registry.artifacts.GetDownload(
        GetDownloadRequest(name=f"artifacts/{digest.sha256}", file_name="wäights v1.pth")
    )
    assert download.digest == digest
    answer = await registry.http.get(download.url)
    assert answer.content == data
    assert "attachment" in answer.headers["content-disposition"]
    part = await registry.http.get(download.url, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])


async def test_uploads_are_listed_without_their_parts(registry: Registry) -> None:
    name = uuid.uuid4().hex
    opened = [
        await registry.artifacts.CreateUpload(CreateUploadRequest(display_name=f"{name} {size}", size_bytes=size))
        for size in (30, 10, 20)
    ]
    await registry.artifacts.CancelUpload(CancelUploadRequest(name=opened[0].name))

    async def listed(filter_: str, order_by: str = "") -> list[str]:
        request = ListUploadsRequest(filter=f'display_name = "{name}*" AND {filter_}', order_by=order_by)
        found = (await registry.artifacts.ListUploads(request)).uploads
        assert not any(upload.parts for upload in found)
        return [upload.name for upload in found]

    assert await listed("state = OPEN") == [opened[2].name, opened[1].name]
    assert await listed("-state = OPEN") == [opened[0].name]
    by_size = await listed("size_bytes >= 10", order_by="size_bytes")
    assert by_size == [opened[1].name, opened[2].name, opened[0].name]


async def test_an_empty_file_has_no_parts(registry: Registry) -> None:
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(display_name="empty"))
    assert not upload.parts
    artifact = await registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest_of(b"")))
    assert artifact.digest == digest_of(b"")


async def test_an_interrupted_upload_is_resumed(registry: Registry) -> None:
    size = 40 * MIB
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(display_name="big", size_bytes=size))
    assert len(upload.parts) > 1
    assert sum(part.size_bytes for part in upload.parts) == size
    data = random_bytes(size)
    first = upload.parts[0]
    (await registry.http.put(first.url, content=data[: first.size_bytes])).raise_for_status()

    resumed = await registry.artifacts.GetUpload(GetUploadRequest(name=upload.name))
    assert [part.received for part in resumed.parts] == [True] + [False] * (len(upload.parts) - 1)
    assert resumed.parts[0].url == ""

    early = await registry.refused(
        registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest_of(data)))
    )
    assert (early.code, early.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_INCOMPLETE")
    assert "part" in early.message

    await registry.put(resumed, data)
    stored = await registry.finalized(upload, digest_of(data))
    assert (stored.state, stored.digest) == (UPLOAD_STATE_FINALIZED, digest_of(data))


async def test_a_wrong_digest_is_told_and_the_upload_stays_open(registry: Registry) -> None:
    data, other = random_bytes(5000), random_bytes(5000)
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=len(data)))
    await registry.put(upload, other)
    request = FinalizeUploadRequest(name=upload.name, digest=digest_of(data))
    wrong = await registry.refused(registry.artifacts.FinalizeUpload(request))
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DIGEST_MISMATCH")
    assert digest_of(data).sha256 in wrong.message
    assert digest_of(other).sha256 in wrong.message
    for digest in (digest_of(data), digest_of(other)):
        missing = await registry.refused(
            registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{digest.sha256}"))
        )
        assert missing.code is grpc.StatusCode.NOT_FOUND

    again = await registry.artifacts.GetUpload(GetUploadRequest(name=upload.name))
    assert again.state == UPLOAD_STATE_OPEN
    assert not any(part.received for part in again.parts)
    await registry.put(again, data)
    assert (await registry.artifacts.FinalizeUpload(request)).digest == digest_of(data)


async def test_a_wrong_size_is_told(registry: Registry) -> None:
    data = random_bytes(300)
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=len(data)))
    await registry.put(upload, data)
    digest = digest_of(data)
    digest.size_bytes += 1
    wrong = await registry.refused(
        registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest))
    )
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "SIZE_MISMATCH")
    assert "300" in wrong.message
    assert "301" in wrong.message


async def test_fewer_bytes_than_announced_do_not_count(registry: Registry) -> None:
    data = random_bytes(300)
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=301))
    await registry.put(upload, data)
    digest = digest_of(data)
    digest.size_bytes = 301
    early = await registry.refused(
        registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest))
    )
    assert early.reason == "UPLOAD_INCOMPLETE"
    again = await registry.artifacts.GetUpload(GetUploadRequest(name=upload.name))
    assert (again.state, [part.received for part in again.parts]) == (UPLOAD_STATE_OPEN, [False])


async def test_a_file_whose_digest_is_announced_is_sent_at_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = random_bytes(20 * MIB), random_bytes(20 * MIB)
    digest = digest_of(data)
    request = CreateUploadRequest(size_bytes=len(data), sha256=digest.sha256)
    upload = await registry.artifacts.CreateUpload(request)
    assert digest.sha256 in upload.direct.url
    early = registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest))
    assert (await registry.refused(early)).reason == "UPLOAD_INCOMPLETE"
    fresh = (await registry.artifacts.GetUpload(GetUploadRequest(name=upload.name))).direct
    assert fresh.expire_time.ToDatetime() >= upload.direct.expire_time.ToDatetime()
    headers = dict(fresh.headers)
    assert (await registry.http.put(fresh.url, content=other, headers=headers, timeout=60)).status_code >= 400
    assert (await registry.http.put(fresh.url, content=data, headers=headers, timeout=60)).status_code == 200
    monkeypatch.setattr("services.storage.uploads.checked", None)  # nothing is read
    artifact = await registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest))
    assert artifact.digest == digest
    ended = await registry.artifacts.GetUpload(GetUploadRequest(name=upload.name))
    assert (ended.state, ended.HasField("direct"), ended.verified_bytes) == (UPLOAD_STATE_FINALIZED, False, len(data))


async def test_an_announced_digest_does_not_bind_the_parts(registry: Registry) -> None:
    data = random_bytes(100)
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=100, sha256="0" * 64))
    await registry.put(upload, data)
    artifact = await registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest_of(data)))
    assert artifact.digest == digest_of(data)
    malformed = registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=1, sha256="A" * 64))
    assert (await registry.refused(malformed)).fields[0][0] == "sha256"


async def sent(registry: Registry, data: bytes) -> FinalizeUploadRequest:
    """Send a file in parts; return the request that finalizes it."""
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=len(data)))
    await registry.put(upload, data)
    return FinalizeUploadRequest(name=upload.name, digest=digest_of(data))


async def test_a_large_file_is_verified_after_the_call(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.operations.runner._BEAT_SECONDS", 0.02)
    monkeypatch.setattr("services.operations.watching.POLL_SECONDS", 0.01)
    pieces, seen_some = count(), threading.Event()

    def wait(_: Precedence) -> None:
        if next(pieces) == 20:
            seen_some.wait(60)

    monkeypatch.setattr(Precedence, "give_way", wait)
    data = random_bytes(60 * MIB)
    request = await sent(registry, data)
    begun = await registry.artifacts.FinalizeUpload(request)
    assert (begun.state, begun.digest, begun.verified_bytes) == (UPLOAD_STATE_VERIFYING, digest_of(data), 0)
    again = await registry.artifacts.FinalizeUpload(request)
    assert again.state in {UPLOAD_STATE_VERIFYING, UPLOAD_STATE_FINALIZED}
    other = FinalizeUploadRequest(name=request.name, digest=digest_of(b"other"))
    assert (await registry.refused(registry.artifacts.FinalizeUpload(other))).reason == "DIGEST_MISMATCH"
    seen = []
    async for upload in registry.artifacts.WatchUpload(WatchUploadRequest(name=request.name)):
        seen.append(upload)
        if 0 < upload.verified_bytes < len(data):
            seen_some.set()
    assert seen_some.is_set(), [upload.verified_bytes for upload in seen]
    assert [upload.state for upload in seen[:-1]] == [UPLOAD_STATE_VERIFYING] * (len(seen) - 1)
    assert (seen[-1].state, seen[-1].digest, seen[-1].verified_bytes) == (
        UPLOAD_STATE_FINALIZED,
        digest_of(data),
        len(data),
    )
    assert (await registry.artifacts.FinalizeUpload(request)) == seen[-1]
    await registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{seen[-1].digest.sha256}"))


async def test_a_large_file_of_another_digest_can_be_sent_again(registry: Registry) -> None:
    data, other = random_bytes(17 * MIB), random_bytes(17 * MIB)
    request = await sent(registry, other)
    request.digest.CopyFrom(digest_of(data))
    opened = await registry.finalized(Upload(name=request.name), request.digest)
    assert (opened.state, opened.HasField("digest")) == (UPLOAD_STATE_OPEN, False)
    assert (opened.failure.reason, opened.failure.evidence) == (FAILURE_REASON_INPUT_UNAVAILABLE, "DIGEST_MISMATCH")
    assert digest_of(other).sha256 in opened.failure.message
    assert not any(part.received for part in opened.parts)
    await registry.put(opened, data)
    stored = await registry.finalized(opened, request.digest)
    assert (stored.state, stored.HasField("failure")) == (UPLOAD_STATE_FINALIZED, False)


async def test_a_verification_can_be_cancelled(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, hold = threading.Event(), threading.Event()

    def wait(_: Precedence) -> None:
        begun.set()
        hold.wait(60)

    monkeypatch.setattr(Precedence, "give_way", wait)
    data = random_bytes(17 * MIB)
    request = await sent(registry, data)
    await registry.artifacts.FinalizeUpload(request)
    assert await asyncio.to_thread(begun.wait, 60)
    watching = registry.artifacts.WatchUpload(WatchUploadRequest(name=request.name))
    states = (upload.state async for upload in watching)
    assert await anext(states) == UPLOAD_STATE_VERIFYING
    await registry.artifacts.CancelUpload(CancelUploadRequest(name=request.name))
    assert [state async for state in states][-1] == UPLOAD_STATE_ABORTED
    hold.set()
    await asyncio.sleep(0.2)
    stored = registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{request.digest.sha256}"))
    assert (await registry.refused(stored)).code is grpc.StatusCode.NOT_FOUND


async def test_finalizing_twice_returns_the_same(registry: Registry) -> None:
    data = random_bytes(1000)
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=len(data)))
    await registry.put(upload, data)
    request = FinalizeUploadRequest(name=upload.name, digest=digest_of(data))
    first, second, third = await asyncio.gather(*(registry.artifacts.FinalizeUpload(request) for _ in range(3)))
    assert first == second == third
    assert (await registry.artifacts.FinalizeUpload(request)) == first
    assert (await registry.artifacts.GetUpload(GetUploadRequest(name=upload.name))).state == UPLOAD_STATE_FINALIZED
    other = await registry.refused(
        registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest_of(b"other")))
    )
    assert (other.code, other.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DIGEST_MISMATCH")


async def test_equal_bytes_are_stored_once(registry: Registry) -> None:
    data = random_bytes(1000)
    first = await registry.store(data)
    before = await registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{first.sha256}"))
    assert await registry.store(data) == first
    after = await registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{first.sha256}"))
    assert before == after


async def test_a_cancelled_upload_is_gone(registry: Registry) -> None:
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=10))
    await registry.put(upload, b"0123456789")
    for _ in range(2):
        cancelled = await registry.artifacts.CancelUpload(CancelUploadRequest(name=upload.name))
        assert (cancelled.name, cancelled.state) == (upload.name, UPLOAD_STATE_ABORTED)
    assert (await registry.artifacts.GetUpload(GetUploadRequest(name=upload.name))).state == UPLOAD_STATE_ABORTED
    refused = await registry.refused(
        registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest_of(b"0123456789")))
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_ABORTED")


async def test_a_finalized_upload_cannot_be_cancelled(registry: Registry) -> None:
    upload = await registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=1))
    await registry.put(upload, b"x")
    await registry.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest_of(b"x")))
    refused = await registry.refused(registry.artifacts.CancelUpload(CancelUploadRequest(name=upload.name)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_FINALIZED")


async def test_the_same_request_id_opens_one_upload(registry: Registry) -> None:
    request = CreateUploadRequest(display_name="a", size_bytes=10, request_id=str(uuid.uuid4()))
    first, second = await asyncio.gather(*(registry.artifacts.CreateUpload(request) for _ in range(2)))
    assert first.name == second.name
    request.size_bytes = 11
    reused = await registry.refused(registry.artifacts.CreateUpload(request))
    assert (reused.code, reused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_unknown_and_malformed_names_are_refused(registry: Registry) -> None:
    for name in ("uploads/nothing", f"uploads/{uuid.uuid4()}"):
        unknown = await registry.refused(registry.artifacts.GetUpload(GetUploadRequest(name=name)))
        assert unknown.code is grpc.StatusCode.NOT_FOUND
    missing = await registry.refused(registry.artifacts.GetDownload(GetDownloadRequest(name="artifacts/" + "0" * 64)))
    assert missing.code is grpc.StatusCode.NOT_FOUND
    malformed = await registry.refused(registry.artifacts.GetArtifact(GetArtifactRequest(name="artifacts/xyz")))
    assert malformed.code is grpc.StatusCode.INVALID_ARGUMENT
    negative = await registry.refused(registry.artifacts.CreateUpload(CreateUploadRequest(size_bytes=-1)))
    assert negative.fields[0][0] == "size_bytes"
