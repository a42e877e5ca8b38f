"""What a worker fetches: single files and whole lists, checked on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from lathe.internal.v1.selection_pb2 import FileList
from lathe.type.v1 import failure_pb2, task_pb2
from lathe.type.v1.digest_pb2 import Digest, File

from engines.failures import EngineFailure
from services.tasks.worker.inputs import Inputs
from tests.integration.tasks.kit import FolderStore, Site

ABSENT = Digest(sha256="0" * 64, size_bytes=3)


async def stored(store: FolderStore, *files: tuple[str, Digest]) -> Digest:
    """Store a list of files and return its digest."""
    listed = FileList(files=[File(path=path, digest=digest) for path, digest in files])
    return await store.put_bytes(listed.SerializeToString())


async def test_the_files_of_a_list_lie_under_its_folder(site: Site) -> None:
    one, two = await site.blobs.put_bytes(b"1"), await site.blobs.put_bytes(b"2")
    listed = await stored(site.blobs, ("content/a", one), ("content/b", two), ("c", one))
    await site.start_worker()
    task = await site.create("read", file_lists={"calibration": listed.sha256, "evaluation": listed.sha256})
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert done.result.hardware.split() == [
        f"{folder}/{each}" for folder in ("calibration", "evaluation") for each in ("c=1", "content/a=1", "content/b=2")
    ]


async def test_a_file_that_is_gone_is_named(site: Site) -> None:
    listed = await stored(site.blobs, ("content/a", ABSENT))
    await site.start_worker()
    failed = await site.reach(
        await site.create("read", file_lists={"dataset": listed.sha256}), task_pb2.TASK_STATE_FAILED
    )
    failure = failed.status.failure
    assert (failure.reason, failure.stage) == (
        failure_pb2.FAILURE_REASON_INPUT_UNAVAILABLE,
        failure_pb2.TASK_STAGE_FETCHING_INPUTS,
    )
    assert "dataset/content/a" in failure.message
    failed = await site.reach(
        await site.create("read", file_lists={"dataset": ABSENT.sha256}), task_pb2.TASK_STATE_FAILED
    )
    assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_INPUT_UNAVAILABLE
    assert "the list of the files of dataset" in failed.status.failure.message


async def test_progress_is_told_while_many_files_are_fetched(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "blobs")
    files = [(f"content/{number}", await store.put_bytes(b"x" * number)) for number in range(300)]
    told: list[tuple[float, str]] = []
    inputs = Inputs(store, tmp_path / "work", lambda part, words: told.append((part, words)))
    await inputs.fetch([("index.parquet", files[7][1])], [("d", await stored(store, *files))])
    assert len(list((tmp_path / "work" / "d" / "content").iterdir())) == 300
    assert (tmp_path / "work" / "index.parquet").read_bytes() == b"x" * 7
    assert [part for part, _ in told] == sorted(part for part, _ in told)
    assert told[-1] == (1.0, "301 of 301 files fetched")


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/x", "a/../../x", "a//b", "a/./b", "", "a\\b", "a\0b", "x" * 600],
    ids=lambda path: repr(path)[:20],
)
async def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, path: str) -> None:
    store = FolderStore(tmp_path / "blobs")
    blob = await store.put_bytes(b"x")
    inputs = Inputs(store, tmp_path / "work", lambda part, words: None)
    for files, lists in (([(path, blob)], []), ([], [("d", await stored(store, (path, blob)))])):
        with pytest.raises(EngineFailure, match="is not inside the work directory") as caught:
            await inputs.fetch(files, lists)
        assert caught.value.reason.value == "INVALID_SPEC"
    assert not (tmp_path / "work").exists()


async def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "blobs")
    inputs = Inputs(store, tmp_path / "work", lambda part, words: None)
    with pytest.raises(EngineFailure, match="not a list of files"):
        await inputs.fetch([], [("d", await store.put_bytes(b"\xff\xff"))])
