"""`lathe gc` and `lathe usage`: what they ask for, and what they say."""

from __future__ import annotations

import json

from lathe.registry.v1.project_service_pb2 import Project, Quotas
from lathe.registry.v1.storage_service_pb2 import (
    CreateGarbageCollectionRequest,
    GarbageCollection,
    ListProjectUsagesResponse,
    ProjectUsage,
    StoredBytes,
    TaskUsage,
)
from lathe.type.v1.failure_pb2 import Failure
from lathe.type.v1.operation_pb2 import OPERATION_STATE_FAILED, OPERATION_STATE_SUCCEEDED

from services.cli.exit_codes import ExitCode
from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite

NAME = "garbageCollections/1"


def collects(suite: Suite) -> None:
    def begun(request: CreateGarbageCollectionRequest) -> GarbageCollection:
        done = GarbageCollection(
            name=NAME,
            dry_run=request.garbage_collection.dry_run,
            state=OPERATION_STATE_SUCCEEDED,
            referred=StoredBytes(files=1200, bytes=3 << 30),
            waiting=StoredBytes(files=7, bytes=2048),
            removed=StoredBytes(files=3, bytes=1 << 20),
        )
        suite.answers["WatchGarbageCollection"] = [done]
        return GarbageCollection(name=NAME)

    suite.answers["CreateGarbageCollection"] = begun


def test_a_dry_run_counts_and_removes_nothing(suite: Suite, lathe: Lathe) -> None:
    collects(suite)
    out = lathe("gc", "--dry-run").out
    for text in ("1,200", "3.0 GiB", "7", "2.0 KiB", "would be removed", "1.0 MiB"):
        assert text in out
    assert [each.garbage_collection.dry_run for each in suite.asked["CreateGarbageCollection"]] == [True]


def test_it_removes_when_told_to(suite: Suite, lathe: Lathe) -> None:
    collects(suite)
    found = json.loads(lathe("gc", "--yes", "--output", "json").out)
    assert found["removed"] == {"files": "3", "bytes": str(1 << 20)}
    assert [each.garbage_collection.dry_run for each in suite.asked["CreateGarbageCollection"]] == [False]


def test_a_script_has_to_say_yes(suite: Suite, lathe: Lathe) -> None:
    collects(suite)
    ended = lathe("gc")
    assert ended.code == ExitCode.USAGE
    assert "say --yes" in ended.err
    assert not suite.asked["CreateGarbageCollection"]


def test_a_failure_says_why_and_what_to_do(suite: Suite, lathe: Lathe) -> None:
    suite.answers["CreateGarbageCollection"] = GarbageCollection(name=NAME)
    failure = Failure(message="The evaluator does not say.", suggested_fix="See its log.")
    suite.answers["WatchGarbageCollection"] = [
        GarbageCollection(name=NAME, state=OPERATION_STATE_FAILED, failure=failure)
    ]
    ended = lathe("gc", "--yes")
    assert ended.code == ExitCode.TASK_FAILED
    assert "The evaluator does not say. See its log." in " ".join(ended.err.split())


USED = ProjectUsage(
    project="projects/vision",
    stored=StoredBytes(files=1200, bytes=3 << 30),
    open_uploads=2,
    quota_bytes=4 << 30,
    quotas=Quotas(waiting_tasks=100, stored_bytes=5 << 30, calls_per_second=50),
    tasks=[
        TaskUsage(kind="conversion", pending=3, dispatched=1, succeeded=1234),
        TaskUsage(kind="evaluation", pending=4, failed=1),
    ],
)


def test_usage_lists_projects(suite: Suite, lathe: Lathe) -> None:
    late = ProjectUsage(project="projects/sound", unreachable=["optimizer"])
    suite.answers["ListProjectUsages"] = ListProjectUsagesResponse(project_usages=[USED, late])
    ended = lathe("usage")
    for text in ("vision", "1,200", "3.0 GiB", " 7 ", "1,235"):
        assert text in ended.out
    assert "Tasks are missing: optimizer did not answer." in ended.err


def test_a_project_is_shown_with_its_use_beside_its_quotas(suite: Suite, lathe: Lathe) -> None:
    suite.answers |= {"GetProjectUsage": USED, "GetProject": Project(name="projects/vision")}
    for command in (("usage", "vision"), ("--project", "vision", "usage"), ("projects", "get", "vision")):
        out = lathe(*command).out
        for text in (
            "conversion 3, evaluation 4 (of each kind at most 100)",
            "conversion 1 (no quota)",
            "2 (no quota)",
            "4.0 GiB of 5.0 GiB",
            "50 a second in each server",
        ):
            assert text in out, command
    assert json.loads(lathe("usage", "vision", "--output", "json").out)["tasks"][1]["failed"] == "1"
    assert {each.project for each in suite.asked["GetProjectUsage"]} == {"projects/vision"}
