"""Parts of the dataset service that need no server: what fits in an answer, indexes on disk, archives."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from lathe.registry.v1.dataset_service_pb2 import Dataset, ValueCount
from lathe.type.v1.digest_pb2 import Digest

from engines.datasets.items import Item
from engines.failures import EngineFailure
from services.registry.datasets import rules
from services.registry.datasets.archive import _Packer
from services.registry.datasets.contents import _files
from services.registry.datasets.index_files import IndexFiles
from services.registry.datasets.job import _found


class Store:
    """Hands out bytes and counts how often."""

    def __init__(self) -> None:
        self.fetched = 0

    async def fetch(self, digest: Digest, path: Path) -> None:
        self.fetched += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * digest.size_bytes)


def digest(number: int, size: int = 10) -> Digest:
    return Digest(sha256=f"{number:064x}", size_bytes=size)


async def test_an_index_is_fetched_once_and_dropped_when_others_need_the_room(tmp_path: Path) -> None:
    store: Any = Store()
    files = IndexFiles(store, tmp_path / "indexes", limit_bytes=25)
    for _ in range(3):
        assert await files.read(digest(1), Path.read_bytes) == b"x" * 10
    assert store.fetched == 1
    await files.read(digest(2), Path.read_bytes)
    os.utime(tmp_path / "indexes" / f"{digest(2).sha256}.parquet", (1, 1))
    await files.read(digest(3), Path.read_bytes)
    assert {path.stem for path in (tmp_path / "indexes").iterdir()} == {digest(1).sha256, digest(3).sha256}
    # Larger than all that may be kept, it still can be read.
    assert len(await files.read(digest(4, 100), Path.read_bytes)) == 100


async def test_an_index_that_another_process_dropped_is_fetched_again(tmp_path: Path) -> None:
    store: Any = Store()
    files = IndexFiles(store, tmp_path, limit_bytes=100)
    calls = 0

    def reader(path: Path) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 1:
            path.unlink()
        return path.read_bytes()

    assert await files.read(digest(1), reader) == b"x" * 10
    assert (calls, store.fetched) == (2, 2)
    with pytest.raises(EngineFailure):
        await files.read(digest(1), failing)


def failing(path: Path) -> None:
    from engines.failures import FailureReason

    raise EngineFailure(FailureReason.INVALID_DATA, "The file is not the index of a dataset.")


def test_an_answer_is_cut_to_what_fits() -> None:
    dataset = Dataset()
    dataset.report.warnings.extend("w" * 4000 for _ in range(1000))
    dataset.classes.extend(ValueCount(key="k", value=f"{number}", count=1) for number in range(20_000))
    rules.fit(dataset)
    assert dataset.ByteSize() < 4_000_000
    assert len(dataset.classes) <= 10_000
    assert dataset.report.more_warnings == 1000 - len(dataset.report.warnings)


@pytest.mark.parametrize(
    "result",
    [{"report": {"items": "many"}}, {"format": "PAINTING"}, {"item_count": "x"}, {"classes": [1]}],
)
def test_an_answer_that_is_none_is_a_fault(result: dict[str, Any]) -> None:
    with pytest.raises(EngineFailure, match="not usable"):
        _found(result)


def test_nothing_but_files_named_by_digest_is_stored(tmp_path: Path) -> None:
    good = tmp_path / ("a" * 64)
    good.write_bytes(b"12345")
    assert list(_files(tmp_path)) == [Digest(sha256="a" * 64, size_bytes=5)]
    (tmp_path / ("b" * 64)).symlink_to("/etc/hostname")
    with pytest.raises(EngineFailure, match="link"):
        list(_files(tmp_path))
    (tmp_path / ("b" * 64)).unlink()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(EngineFailure, match="named"):
        list(_files(tmp_path))
    assert list(_files(tmp_path / "absent")) == []


def pack(folder: Path, items: list[Item], contents: dict[str, bytes]) -> Path:
    folder.mkdir()
    with ExitStack() as stack:
        packer = _Packer(folder, stack)
        for item in items:
            for missing in packer.new([item]):
                (folder / missing.sha256).write_bytes(contents[missing.sha256])
            packer.add([item])
        packer.finish()
    return packer.path


def test_an_archive_holds_every_file_once_inside_its_folder(tmp_path: Path) -> None:
    contents = {hashlib.sha256(data).hexdigest(): data for data in (b"one", b"two")}
    one, two = contents
    items = [
        Item("a.png", one, 3, 2, 2, {"k": "v"}),
        Item("a.png", two, 3, 2, 2),
        Item("a.png", one, 3, 2, 2),
        Item("../../etc/passwd", one, 3, 2, 2),
        Item("images/b.png", two, 3, 2, 2),
        Item("data.npz", two, 3, row=4),
    ]
    first, second = pack(tmp_path / "1", items, contents), pack(tmp_path / "2", items, contents)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as packed:
        assert packed.namelist() == [
            "images/a.png",
            f"images/{two}/a.png",
            "images/etc/passwd",
            "images/b.png",
            "tensors/data.npz",
            "annotations.jsonl",
        ]
        assert packed.read(f"images/{two}/a.png") == b"two"
        lines = [json.loads(line) for line in packed.read("annotations.jsonl").splitlines()]
    assert lines[0] == {"image": "images/a.png", "width": 2, "height": 2, "classifications": {"k": "v"}}
    assert [line.get("image") for line in lines[1:3]] == [f"images/{two}/a.png", "images/a.png"]
    assert lines[-1] == {"tensors": "tensors/data.npz", "row": 4}
