"""The commands around releases against the registry, as scripts and people use them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from services.cli.channels import parse_bound
from services.cli.failures import CliError, explain
from services.cli.main import app
from services.cli.names import channel_name, version_name
from tests.contract.registry.releases.desk import Desk


class Shell:
    """Runs commands in a thread: the registry answers in this one."""

    def __init__(self, address: str) -> None:
        self._address = f"registry={address}"

    async def run(self, *arguments: str, right: bool = True) -> Result:
        result = await asyncio.to_thread(
            CliRunner().invoke, app, ["--address", self._address, *arguments], env={"COLUMNS": "200"}
        )
        assert (result.exit_code == 0) is right, result.output
        return result

    async def json(self, *arguments: str) -> Any:
        printed = (await self.run(*arguments, "-o", "json")).stdout
        # The registry, in this process too, writes its log to the same place.
        return json.loads(re.sub(r"^\d{4}-\d\d-\d\d .*\n", "", printed, flags=re.MULTILINE))

    async def refusal(self, *arguments: str) -> str:
        """Return what a refused command tells, as its user reads it."""
        error = (await self.run(*arguments, right=False)).exception
        assert isinstance(error, (grpc.RpcError, CliError))
        told = explain(error)
        assert told is not None
        return "\n".join([told.sentence, *told.details])


@pytest.fixture
def shell(desk: Desk) -> Shell:
    return Shell(desk.address)


async def test_a_release_from_the_command_line(desk: Desk, shell: Shell) -> None:
    model = await desk.model()
    name, first = model.removeprefix("models/"), await desk.package(model)
    channel = f"{name}/production"
    made = await shell.json("channels", "create", channel, "--require-parity", "--bound", "top1@scene=night>=0.9")
    assert made["rules"] == {
        "require_parity": True,
        "bounds": [{"metric": "top1", "slice": "scene=night", "min": 0.9}],
    }
    refusal = await shell.refusal("promote", f"{name}/1", "--channel", "production")
    assert "[PROMOTION_REFUSED]" in refusal
    assert "A SUCCEEDED evaluation" in refusal
    shown = desk.evaluation(first, sliced=[("top1", "scene=night", 0.95)]).removeprefix("evaluationTasks/")
    promoted = await shell.json("promote", f"{name}/1", "-c", "production", "--evaluation", shown, "--note", "first")
    assert (promoted["note"], promoted["evaluation_task"]) == ("first", f"evaluationTasks/{shown}")
    await shell.run("channels", "update", channel, "--no-bounds", "--no-require-parity", "--description", "Serves.")
    assert (await shell.json("channels", "get", channel))["rules"] == {}
    await desk.package(model)
    await shell.run("promote", f"{name}/2", "-c", "production")
    assert "roll back to 1" in (await shell.run("rollback", name, "-c", "production", "--note", "worse")).stdout
    await shell.run("rollback", name, "-c", "production", "--to", "2")
    history = (await shell.run("releases", name, "-c", "production")).stdout
    assert [word in history for word in ("roll back to 2", "worse", f"{name}/1", "promotion")] == [True] * 4
    listed = await shell.json("channels", "list", name)
    assert [each["current_version"] for each in listed] == [f"{model}/versions/2"]
    assert "[CHANNEL_SERVES]" in await shell.refusal("channels", "delete", channel)
    await shell.run("channels", "delete", channel, "--force")
    assert await shell.json("channels", "list", name) == []


async def test_compatibility_is_an_exit_code_too(desk: Desk, shell: Shell) -> None:
    name = (await desk.package(await desk.model())).removeprefix("models/").replace("/versions/", "/")
    right = await shell.run("check-compatibility", name, "--device", "cpu-x86-64", "--runtime-version", "1.40.0")
    assert "was not verified there" in right.stdout
    wrong = await shell.run("check-compatibility", name, "--device", "cpu-arm64", right=False)
    assert wrong.exit_code == 1
    assert "The package needs x86_64" in wrong.stdout
    assert "there is no device" in await shell.refusal("check-compatibility", name, "--device", "cpu")


async def test_an_update_without_changes_is_refused(shell: Shell) -> None:
    assert "Nothing to change" in await shell.refusal("channels", "update", "a/b")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("top1>=0.97", {"metric": "top1", "slice": "", "min": 0.97}),
        ("latency_p99_ms <= 20", {"metric": "latency_p99_ms", "slice": "", "max": 20.0}),
        ("recall/7@scene=night>=1e-2", {"metric": "recall/7", "slice": "scene=night", "min": 0.01}),
    ],
)
def test_bounds_are_read(text: str, values: dict[str, Any]) -> None:
    bound = parse_bound(text)
    assert {field.name: value for field, value in bound.ListFields()} | {"slice": bound.slice} == values


@pytest.mark.parametrize("text", ["", "top1", "top1=1", "top1>1", ">=1", "top1>=", "top1>=x", "top1>=nan"])
def test_a_text_that_is_not_a_bound_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="METRIC>=VALUE"):
        parse_bound(text)


def test_channels_are_named_shortly() -> None:
    for text in ("digits/production", "models/digits/channels/production"):
        assert channel_name(text) == "models/digits/channels/production"
    for text in ("digits", "digits/", "a/b/c", ""):
        with pytest.raises(CliError, match="MODEL/CHANNEL"):
            channel_name(text)


async def test_an_alias_from_the_command_line(desk: Desk, shell: Shell) -> None:
    model = await desk.model()
    name, first, second = model.removeprefix("models/"), await desk.package(model), await desk.package(model)
    made = await shell.json("aliases", "set", f"{name}@best", "1")
    assert (made["name"], made["model_version"]) == (f"{model}/aliases/best", first)
    assert (await shell.json("models", "get", f"{name}@best"))["name"] == first
    await shell.run("channels", "create", f"{name}/production")
    promoted = await shell.json("promote", f"{name}@best", "--channel", "production")
    assert promoted["model_version"] == first
    moved = await shell.json("aliases", "set", f"{name}@best", f"{name}/2", "--etag", made["etag"])
    assert moved["model_version"] == second
    assert "has changed since" in await shell.refusal("aliases", "set", f"{name}@best", "1", "--etag", made["etag"])
    assert f"{name}@best" in (await shell.run("aliases", "list", name)).stdout
    assert (await shell.json("aliases", "get", f"{name}@best"))["model_version"] == second
    await shell.run("aliases", "delete", f"{name}@best")
    for wrong in ("digits@", "@best", "a@b@c"):
        with pytest.raises(CliError, match="write MODEL@ALIAS"):
            version_name(wrong)


async def test_approvals_from_the_command_line(desk: Desk, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    model = await desk.model()
    name, version = model.removeprefix("models/"), await desk.package(model)
    channel = f"{name}/production"
    options = ("--minimum-verdict", "WARN", "--verified-on-device", "--approver", "bob", "--approver", "cid")
    made = await shell.json("channels", "create", channel, *options, "--approvals", "1")
    assert made["rules"] == {
        "minimum_verdict": "VERDICT_WARN",
        "verified_on_device": True,
        "approval": {"count": 1, "approvers": ["bob", "cid"]},
    }
    await shell.run("channels", "update", channel, "--no-verified-on-device")
    shown = (await shell.run("channels", "get", channel)).stdout
    assert "parity at least WARN" in shown
    assert "1 approval of bob, cid" in shown
    assert "has 0 of 1 approvals" in await shell.refusal("promote", f"{name}/1", "-c", "production")
    with monkeypatch.context() as as_bob:
        as_bob.setenv("USER", "bob")
        given = await shell.json("approve", f"{name}/1", "-c", "production", "--note", "tried it")
        assert (given["owner"], given["model_version"]) == ("bob", version)
        await shell.run("approve", f"{name}/1", "-c", "production", "--revoke")
        assert "have not approved" in await shell.refusal("approve", f"{name}/1", "-c", "production", "--revoke")
        await shell.run("approve", f"{name}/1", "-c", "production")
    assert [each["owner"] for each in await shell.json("approvals", name, "-c", "production")] == ["bob"]
    etag = (await shell.json("channels", "get", channel))["etag"]
    made = await shell.json("promote", f"{name}/1", "-c", "production", "--etag", etag)
    assert made["approvers"] == ["bob"]
    assert "has changed since" in await shell.refusal("rollback", name, "-c", "production", "--etag", etag)
