"""A worker takes tasks of a device only if it can build for it."""

from __future__ import annotations

import pytest

from engines.runtimes import Where, runtimes
from services.local.more_devices import workers_for
from services.local.roster import WORKERS
from services.platform.settings import ConfigurationError, Settings
from services.process.startup import StartupError
from services.tasks.worker.process import opened_store, served_device, served_kinds, why_not_run
from services.worker import KINDS


def test_a_worker_serves_a_device_if_some_runtime_says_that_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    device = served_device("cpu-x86-64")
    assert device.id == "cpu-x86-64"
    for name in device.buildable_runtimes:
        room = type(runtimes()[name])
        monkeypatch.setattr(room, "available", lambda self, device=None: f"{self.name}-toolkit for {device.id}")
    with pytest.raises(ConfigurationError, match="openvino needs openvino-toolkit for cpu-x86-64"):
        served_device("cpu-x86-64")


def test_what_runs_forms_is_served_by_a_machine_that_is_the_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_run(served_device("cpu-x86-64")) == ""
    assert [entry.name for entry in workers_for(["cpu-x86-64"])] == [f"{entry.name}-cpu-x86-64" for entry in WORKERS]
    for room in runtimes().values():
        monkeypatch.setattr(type(room), "where", lambda *_: Where.DEVICE)
    assert "There is nothing to measure" in why_not_run(served_device("cpu-x86-64"))
    found = workers_for(["cpu-x86-64", "cpu-x86-64"])
    assert [(entry.name, entry.device) for entry in found] == [
        ("worker-conversion-cpu-x86-64", "cpu-x86-64"),
        ("worker-quantization-cpu-x86-64", "cpu-x86-64"),
    ]
    with pytest.raises(ConfigurationError, match="--device is 'cpu-x87', but the catalog has: cpu-x86-64"):
        workers_for(["cpu-x87"])
    with pytest.raises(ConfigurationError, match=r"--device (is )?'ascend-310b'"):
        workers_for(["ascend-310b"])


def test_the_roster_knows_which_kinds_run_forms() -> None:
    assert {kind.name: kind.runs_forms for kind in KINDS} == {entry.kind: entry.runs_forms for entry in WORKERS}


async def test_a_worker_takes_nothing_before_the_store_answers() -> None:
    with pytest.raises(StartupError, match=r"the S3 store does not answer .*LATHE_S3_ENDPOINT"):
        await opened_store(Settings(s3_endpoint="http://127.0.0.1:9", startup_wait_seconds=0))


def test_a_device_that_is_not_in_the_catalog_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the catalog has: cpu-x86-64"):
        served_device("cpu-x87")


def test_a_worker_takes_the_kinds_that_it_is_told_or_all_that_its_machine_can_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = served_device("cpu-x86-64")
    assert list(served_kinds(KINDS, (), device)) == list(KINDS)
    assert [kind.name for kind in served_kinds(KINDS, ("profile", "conversion"), device)] == ["profile", "conversion"]
    with pytest.raises(ConfigurationError, match="LATHE_KINDS names 'cooking', but the kinds of task are: conversion"):
        served_kinds(KINDS, ("conversion", "cooking"), device)
    for room in runtimes().values():
        monkeypatch.setattr(type(room), "where", lambda *_: Where.DEVICE)
    assert [kind.name for kind in served_kinds(KINDS, (), device)] == ["conversion", "quantization"]
    assert [kind.name for kind in served_kinds(KINDS, ("conversion",), device)] == ["conversion"]
    with pytest.raises(ConfigurationError, match=r"A worker for evaluation tasks runs forms\. There is nothing"):
        served_kinds(KINDS, ("conversion", "evaluation"), device)


def test_the_kinds_of_a_worker_are_names_between_commas() -> None:
    assert Settings(kinds=" conversion,profile, ,conversion").kind_names == ("conversion", "profile")
    assert Settings().kind_names == ()
