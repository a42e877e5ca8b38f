"""Files that are not what they should be: none becomes a version, none leaves bytes behind that nobody can explain."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import httpx
import pytest
from lathe.registry.v1 import artifact_service_pb2 as artifact
from lathe.type.v1.digest_pb2 import Digest
from lathe_client.transfers import digest_of, wait_verified

from tests.e2e.calls import Refusal, refusal, refusal_of
from tests.e2e.desk import Desk

CONTENT = b"weights" * 1000
WRONG = Digest(sha256=hashlib.sha256(b"other").hexdigest(), size_bytes=len(CONTENT))


@pytest.fixture
def upload(desk: Desk) -> artifact.Upload:
    """An open upload whose only part has arrived; its display name is the digest."""
    content = CONTENT + os.urandom(8)
    request = artifact.CreateUploadRequest(display_name="weights", size_bytes=len(content))
    opened = desk.rpc.artifacts.CreateUpload(request)
    assert httpx.put(opened.parts[0].url, content=content, trust_env=False).is_success
    opened.display_name = hashlib.sha256(content).hexdigest()
    return opened


def finalize(upload: artifact.Upload, digest: Digest) -> artifact.FinalizeUploadRequest:
    return artifact.FinalizeUploadRequest(name=upload.name, digest=digest)


def stored(desk: Desk, sha256: str) -> bool:
    return any(key.endswith(sha256) for key in desk.keys("cas/"))


def test_wrong_digest_or_size_stores_nothing_and_the_upload_stays_open(desk: Desk, upload: artifact.Upload) -> None:
    right = Digest(sha256=upload.display_name, size_bytes=upload.size_bytes)
    wrong = Digest(sha256=WRONG.sha256, size_bytes=upload.size_bytes)
    refused = refusal(desk.rpc.artifacts.FinalizeUpload, finalize(upload, wrong))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "DIGEST_MISMATCH")
    assert right.sha256 in refused.message
    longer = Digest(sha256=right.sha256, size_bytes=right.size_bytes + 1)
    refused = refusal(desk.rpc.artifacts.FinalizeUpload, finalize(upload, longer))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "SIZE_MISMATCH")
    for digest in (wrong, right):
        assert not stored(desk, digest.sha256)
        asked = artifact.GetArtifactRequest(name=f"artifacts/{digest.sha256}")
        assert refusal(desk.rpc.artifacts.GetArtifact, asked).code == "NOT_FOUND"
    assert desk.rpc.artifacts.GetUpload(artifact.GetUploadRequest(name=upload.name)).state == artifact.UPLOAD_STATE_OPEN
    assert desk.rpc.artifacts.FinalizeUpload(finalize(upload, right)).digest == right
    assert stored(desk, right.sha256)


def test_a_cancelled_upload_leaves_nothing(desk: Desk, upload: artifact.Upload) -> None:
    staged = f"staging/{upload.name.removeprefix('uploads/')}"
    assert desk.keys(f"{staged}/")
    for _ in range(2):
        desk.rpc.artifacts.CancelUpload(artifact.CancelUploadRequest(name=upload.name))
    assert not desk.keys(f"{staged}/")
    digest = Digest(sha256=upload.display_name, size_bytes=upload.size_bytes)
    refused = refusal(desk.rpc.artifacts.FinalizeUpload, finalize(upload, digest))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "UPLOAD_ABORTED")
    assert not stored(desk, digest.sha256)


def test_an_upload_that_was_broken_off_is_resumed(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(20 << 20))
    content, digest = file.read_bytes(), digest_of(file)
    request = artifact.CreateUploadRequest(display_name="large", size_bytes=len(content))
    opened = desk.rpc.artifacts.CreateUpload(request)
    assert len(opened.parts) > 1
    first = opened.parts[0]
    assert httpx.put(first.url, content=content[: first.size_bytes], trust_env=False).is_success
    refused = refusal(desk.rpc.artifacts.FinalizeUpload, finalize(opened, digest))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "UPLOAD_INCOMPLETE")
    resumed = desk.rpc.artifacts.GetUpload(artifact.GetUploadRequest(name=opened.name))
    assert [part.received for part in resumed.parts] == [True, *(False for _ in resumed.parts[1:])]
    for part in resumed.parts[1:]:
        piece = content[part.offset : part.offset + part.size_bytes]
        assert httpx.put(part.url, content=piece, trust_env=False).is_success
    for _ in range(2):
        finalized = desk.rpc.artifacts.FinalizeUpload(finalize(opened, digest))
        assert finalized.digest == digest
        wait_verified(desk.rpc, finalized, lambda _upload: None)
    staged = f"staging/{opened.name.removeprefix('uploads/')}"
    assert not desk.keys(f"{staged}/")


def refused_file(desk: Desk, path: Path) -> Refusal:
    """Push a file as weights, which must be refused, and see that no version came of it."""
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        desk.push("bad-files", path)
    assert desk.versions("bad-files") == []
    return refusal_of(caught.value)


class Shell:
    """A pickle that runs a command when it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["bare pickle", "archive"])
def test_a_pickle_with_code_in_it(desk: Desk, tmp_path: Path, form: str) -> None:
    trace = tmp_path / "trace"
    payload = pickle.dumps({"state_dict": Shell(f"touch {trace}")})
    file = tmp_path / "evil.pth"
    if form == "archive":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("evil/data.pkl", payload)
            archive.writestr("evil/version", "3\n")
    else:
        file.write_bytes(payload)
    refused = refused_file(desk, file)
    assert refused.reason == "UNSAFE_MODEL"
    assert "system" in refused.message
    assert not trace.exists()


def test_a_truncated_file(desk: Desk, tmp_path: Path) -> None:
    whole = desk.weights[0].read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    refused = refused_file(desk, tmp_path / "half.pth")
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_MODEL")
    assert "half.pth" in refused.message


def test_a_file_of_another_kind(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("these are no weights\n")
    refused = refused_file(desk, tmp_path / "notes.pth")
    assert refused.reason == "INVALID_MODEL"
    assert "text" in refused.message
