"""A backup of the running suite, restored into another folder: what users see, and the work that was under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lathe.converter.v1 import conversion_service_pb2 as converter
from lathe.registry.v1 import alias_service_pb2 as alias
from lathe.registry.v1 import architecture_service_pb2 as architecture
from lathe.registry.v1 import dataset_service_pb2 as dataset
from lathe.registry.v1 import model_service_pb2 as model
from lathe.registry.v1 import release_service_pb2 as release
from lathe.template.v1 import template_service_pb2 as template
from lathe.type.v1 import task_pb2
from lathe_client.connection import Connection

from tests.e2e.beasts import Beasts
from tests.e2e.conftest import start_suite
from tests.e2e.desk import Desk
from tests.eventually import wait_for

CHANNEL = "models/beasts/channels/kept"


def everything(desk: Desk) -> dict[str, Any]:
    """Return what users see: every list, and the bytes that a release serves."""
    rpc = desk.rpc
    return {
        "models": rpc.models.ListModels(model.ListModelsRequest(page_size=1000)),
        "versions": rpc.models.ListModelVersions(model.ListModelVersionsRequest(parent="models/beasts")),
        "aliases": rpc.aliases.ListAliases(alias.ListAliasesRequest(parent="models/beasts")),
        "architectures": rpc.architectures.ListArchitectures(architecture.ListArchitecturesRequest()),
        "templates": rpc.templates.ListTemplates(template.ListTemplatesRequest(page_size=1000)),
        "datasets": rpc.datasets.ListDatasets(dataset.ListDatasetsRequest(page_size=1000)),
        "items": rpc.datasets.ListDatasetItems(dataset.ListDatasetItemsRequest(parent="datasets/scenes")),
        "releases": rpc.releases.ListReleases(release.ListReleasesRequest(parent=CHANNEL)),
        "served": {key: desk.read(key) for key in desk.keys(f"triton/{CHANNEL.split('/', 1)[1]}")},
    }


@pytest.fixture(scope="module")
def before(beasts: Beasts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """A backup that was made while one task ran and one waited, what users saw then, and these tasks."""
    desk, suite, folder = beasts.desk, beasts.desk.suite, tmp_path_factory.mktemp("backup")
    suite.json("channels", "create", "beasts/kept")
    suite.json("promote", beasts.package, "-c", "kept")
    suite.json("aliases", "set", "beasts@kept", beasts.package.rpartition("/")[2])
    # The process that is kept warm for the next task is stopped, so that this one begins and does not end.
    wait_for(lambda: desk.clean() and len(desk.sandboxes()) == 1)
    (warm,) = desk.sandboxes()
    stopped = [warm, *warm.children(recursive=True)]
    for process in stopped:
        process.suspend()
    try:
        running = desk.create(desk.keyed, skip_cache=True)
        wait_for(lambda: desk.get(running).status.state == task_pb2.TASK_STATE_RUNNING)
        waiting = desk.create(beasts.source, skip_cache=True)
        assert desk.get(running).status.state == task_pb2.TASK_STATE_RUNNING
        assert desk.get(waiting).status.state == task_pb2.TASK_STATE_PENDING
        made = suite.json("backup", str(folder))
        seen = everything(desk)
        assert (made["objects"], made["damaged"]) == (len(desk.keys()), [])
    finally:
        for process in stopped:
            process.resume()
    desk.finish(running)
    desk.finish(waiting)
    return folder, seen, [running.name, waiting.name]


@contextmanager
def running_suite(beasts: Beasts, data_dir: Path, *flags: str) -> Iterator[Desk]:
    """Run another suite."""
    suite = start_suite(data_dir, *flags)
    try:
        addresses = {name: part["address"] for name, part in suite.parts.items() if part.get("address")}
        with Connection(addresses, user="tester") as connection:
            yield replace(beasts.desk, suite=suite, rpc=connection)
    finally:
        left = suite.stop()
    assert left == []


@pytest.fixture(scope="module")
def restored(
    beasts: Beasts, before: tuple[Path, dict[str, Any], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The data of another suite, of nothing but the backup, and what users see there while nobody works."""
    data_dir = tmp_path_factory.mktemp("restored")
    beasts.desk.suite.lathe("restore", str(before[0]), "--data-dir", str(data_dir))
    with running_suite(beasts, data_dir, "--no-worker") as desk:
        return data_dir, everything(desk)


@pytest.fixture(scope="module")
def after(beasts: Beasts, restored: tuple[Path, dict[str, Any]]) -> Iterator[Desk]:
    """That suite, at work."""
    with running_suite(beasts, restored[0]) as desk:
        yield desk


def test_everything_is_there_and_what_ran_or_waited_ends(
    beasts: Beasts,
    before: tuple[Path, dict[str, Any], list[str]],
    restored: tuple[Path, dict[str, Any]],
    after: Desk,
    tmp_path: Path,
) -> None:
    _, seen, unfinished = before
    _, found = restored
    assert found.keys() == seen.keys()
    for name, value in seen.items():
        assert found[name] == value, name
    # It checks each file against its digest.
    after.suite.lathe("models", "download", beasts.package, "-d", str(tmp_path))
    assert (tmp_path / "manifest.json").exists()
    for name in unfinished:
        ended = after.finish(converter.ConversionTask(name=name))
        assert ended.status.state == task_pb2.TASK_STATE_SUCCEEDED, ended.status


def test_a_release_of_the_restored_suite_goes_on(beasts: Beasts, after: Desk) -> None:
    assert after.suite.json("promote", beasts.package, "-c", "kept")["name"].endswith("/releases/2")
