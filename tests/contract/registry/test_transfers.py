"""The client's transfers against a real registry and store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from lathe.type.v1.digest_pb2 import Digest
from lathe_client import TransferError, transfers
from lathe_client.connection import Connection

from services.platform.settings import Settings
from services.registry.main import NEEDS, build
from tests.contract.registry.conftest import digest_of, random_bytes
from tests.in_process import serve_in_process

MIB = 1 << 20


class User:
    """Somebody at the command line, and the requests that he sends to the store."""

    def __init__(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connection = Connection({"registry": address}, user="u")
        self.sent: list[str] = []
        self.progress = 0
        self.answers: list[int] = []
        right = transfers._send

        def send(client: Any, piece: Any, url: str, *rest: Any) -> int:
            self.sent.append(url.partition("?")[0].split("/lathe/")[-1].split("/")[0])
            return self.answers.pop(0) if self.answers else right(client, piece, url, *rest)

        monkeypatch.setattr(transfers, "_send", send)

    def count(self, more: int) -> None:
        self.progress += more

    async def upload(self, path: Path) -> Digest:
        return await asyncio.to_thread(transfers.upload_file, self.connection, path, self.count)

    async def download(self, digest: Digest, path: Path) -> None:
        await asyncio.to_thread(transfers.download_file, self.connection, digest, path, lambda _count: None)


@pytest.fixture(scope="module")
async def address(shared_settings: Settings) -> AsyncIterator[str]:
    async with serve_in_process("registry", build, shared_settings, NEEDS) as address:
        yield address


@pytest.fixture
def user(address: str, monkeypatch: pytest.MonkeyPatch) -> User:
    return User(address, monkeypatch)


@pytest.fixture
def new_file(tmp_path: Path) -> Callable[[int], Path]:
    def make(size: int) -> Path:
        path = tmp_path / f"file-{size}"
        path.write_bytes(random_bytes(size))
        return path

    return make


@pytest.mark.parametrize("size", [0, 1, 20 * MIB])
async def test_a_file_goes_there_at_once_and_back(
    user: User, new_file: Callable[[int], Path], tmp_path: Path, size: int
) -> None:
    path = new_file(size)
    digest = await user.upload(path)
    assert digest == digest_of(path.read_bytes())
    assert user.sent == (["cas"] if size else [])
    assert user.progress == size
    await user.download(digest, tmp_path / "back" / "file")
    assert (tmp_path / "back" / "file").read_bytes() == path.read_bytes()
    assert await user.upload(path) == digest
    assert user.sent == (["cas"] if size else [])


async def test_a_file_that_does_not_get_through_at_once_goes_in_parts(
    user: User, new_file: Callable[[int], Path]
) -> None:
    path = new_file(20 * MIB)
    user.answers = [0]
    assert await user.upload(path) == digest_of(path.read_bytes())
    assert user.sent == ["cas", "staging", "staging"]
    assert user.progress == 20 * MIB


async def test_bytes_that_were_stored_meanwhile_are_no_failure(user: User, new_file: Callable[[int], Path]) -> None:
    path = new_file(1000)
    digest = digest_of(path.read_bytes())
    upload = await asyncio.to_thread(transfers._open_upload, user.connection, path, digest)
    for _ in range(2):
        assert await asyncio.to_thread(transfers._send_at_once, transfers._http_client(), path, upload, user.count)
    assert user.sent == ["cas", "cas"]


async def test_a_large_upload_that_was_broken_off_is_resumed(
    user: User, new_file: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "AT_ONCE_BYTES", MIB)
    monkeypatch.setattr(transfers, "PARALLEL_PARTS", 1)
    monkeypatch.setattr(transfers, "ATTEMPTS", 1)
    path = new_file(33 * MIB)
    right, lost = transfers._send_part, [False, True, True]

    def send(client: Any, path: Path, part: Any, on_bytes: Any) -> bool:
        return False if lost[part.number - 1] else right(client, path, part, on_bytes)

    with monkeypatch.context() as broken:
        broken.setattr(transfers, "_send_part", send)
        with pytest.raises(TransferError, match="upload it again"):
            await user.upload(path)
    assert user.sent == ["staging"]
    user.progress = 0
    assert await user.upload(path) == digest_of(path.read_bytes())
    assert user.sent == ["staging"] * 3
    assert user.progress == 33 * MIB


async def test_a_damaged_download_is_refused(
    user: User, new_file: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await user.upload(new_file(1000))
    monkeypatch.setattr(transfers, "_read_from", lambda *_: iter([b"other"]))
    with pytest.raises(TransferError, match="does not have the digest"):
        await user.download(digest, tmp_path / "back")
    assert not list(tmp_path.glob("back*"))


async def test_a_download_that_breaks_off_is_continued(
    user: User, new_file: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib3.exceptions import ProtocolError

    path = new_file(3 * MIB)
    digest = await user.upload(path)
    right, breaks = transfers._read_from, [True]

    def read(client: Any, url: str, offset: int) -> Any:
        for chunk in right(client, url, offset):
            yield chunk
            if breaks and breaks.pop():
                raise ProtocolError("broken off")

    monkeypatch.setattr(transfers, "_read_from", read)
    await user.download(digest, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert not breaks
