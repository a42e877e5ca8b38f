"""Folders to work in: new ones are apart, those of dead processes go, those of living ones stay."""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.platform.work_folders import remove_folder, sweep, temporary_folder, work_folder


def test_folders_of_dead_processes_are_swept(tmp_path: Path) -> None:
    (tmp_path / f"work-{os.getpid()}-left" / "below").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    first, second = work_folder(tmp_path), work_folder(tmp_path)
    assert first != second
    assert {path.name for path in tmp_path.iterdir()} == {"notes", first.name, second.name}
    remove_folder(first)
    remove_folder(second)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_nothing_is_swept_where_nobody_has_worked(tmp_path: Path) -> None:
    sweep(tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_folders_of_other_living_processes_stay(tmp_path: Path) -> None:
    code = "import sys, pathlib\nfrom services.platform.work_folders import work_folder\n"
    code += "print(work_folder(pathlib.Path(sys.argv[1])).name, flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        theirs = other.stdout.readline().strip()
        mine = work_folder(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {theirs, mine.name}
        other.stdin.close()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_container_that_shares_the_volume_leaves_folders_of_others_alone(tmp_path: Path) -> None:
    mine = work_folder(tmp_path)
    code = "import sys, pathlib\nfrom services.platform.work_folders import sweep\nsweep(pathlib.Path(sys.argv[1]))"
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces of processes are not allowed here")
    subprocess.run([*apart, sys.executable, "-c", code, str(tmp_path)], check=True)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_folder_goes_however_deep_it_is(tmp_path: Path) -> None:
    folder, outside = tmp_path / "task", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "kept").touch()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("a", dir_fd=at)
        below = os.open("a", os.O_RDONLY, dir_fd=at)
        os.symlink(outside, "link", dir_fd=below)
        os.close(at)
        at = below
    os.close(at)
    (folder / "shut").mkdir()
    (folder / "shut" / "file").touch()
    (folder / "shut").chmod(0)
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == [outside]
    assert (outside / "kept").exists()


async def test_a_temporary_folder_goes_with_who_worked_in_it(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with temporary_folder(tmp_path) as folder:
            (folder / "file").touch()
            begun.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await begun.wait()
    assert len(list(tmp_path.iterdir())) == 1
    working.cancel()
    await asyncio.wait([working])
    assert list(tmp_path.iterdir()) == []


async def test_a_temporary_folder_goes_if_it_is_cancelled_while_it_is_made(tmp_path: Path) -> None:
    root = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(root, fcntl.LOCK_EX)

    async def work() -> None:
        async with temporary_folder(tmp_path):
            raise AssertionError("it is not made yet")

    working = asyncio.create_task(work())
    await asyncio.sleep(0.1)
    working.cancel()
    await asyncio.sleep(0.1)
    os.close(root)
    await asyncio.wait([working])
    assert working.cancelled()
    assert list(tmp_path.iterdir()) == []
