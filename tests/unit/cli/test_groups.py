"""Several versions by one command: their group, and its exit code."""

from __future__ import annotations

from typing import Any

import pytest
from lathe.type.v1 import measurement_pb2, task_group_pb2, task_pb2
from lathe.type.v1.task_group_pb2 import TaskGroupMember
from lathe_client.tasks import KINDS

from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite

VERSIONS = ["models/digits/versions/1", "models/net/versions/2"]
SHORT = ("digits/1", "net/2")


def answer(suite: Suite, kind: str, verdict: measurement_pb2.Verdict.ValueType) -> None:
    """Let the tasks of a group succeed, with this verdict of parity."""
    of_kind, word = KINDS[kind], kind.capitalize()
    members = [
        TaskGroupMember(
            model_version=each,
            task=f"{kind}Tasks/t{number}",
            state=task_pb2.TASK_STATE_SUCCEEDED,
            result_version=f"models/made/versions/{number}",
        )
        for number, each in enumerate(VERSIONS)
    ]
    group = of_kind.message(f"{word}TaskGroup")(
        name=f"{kind}TaskGroups/g1", state=task_group_pb2.TASK_GROUP_STATE_ALL_SUCCEEDED, members=members
    )
    task = of_kind.message(f"{word}Task")(name=f"{kind}Tasks/t1")
    task.status.state = task_pb2.TASK_STATE_SUCCEEDED
    parity: Any = task.result.components.add().parity if kind == "conversion" else task.result.parity
    parity.verdict = verdict
    suite.answers |= {
        f"Create{word}TaskGroup": group,
        f"Watch{word}TaskGroup": [group],
        f"Get{word}Task": task,
    }


@pytest.mark.parametrize(("command", "kind"), [("convert", "conversion"), ("quantize", "quantization")])
def test_several_versions_are_a_group(suite: Suite, lathe: Lathe, command: str, kind: str) -> None:
    answer(suite, kind, measurement_pb2.VERDICT_PASS)
    words = (command, *SHORT, "--template", "tiny", "--priority", "2", "--label", "team=a", "--skip-cache")
    ended = lathe(*words)
    assert (ended.code, "made/0" in ended.out, "made/1" in ended.out) == (0, True, True)
    (asked,) = suite.asked[f"Create{kind.capitalize()}TaskGroup"]
    assert list(asked.group.model_versions) == VERSIONS
    assert (asked.group.spec.template, asked.group.spec.model_version) == ("templates/tiny", "")
    assert (asked.group.priority, dict(asked.group.labels), asked.skip_cache) == (2, {"team": "a"}, True)
    assert asked.group.display_name == command
    assert f"Create{kind.capitalize()}Task" not in suite.asked


@pytest.mark.parametrize(("command", "kind"), [("convert", "conversion"), ("quantize", "quantization")])
def test_a_verdict_in_a_group_has_its_exit_code(suite: Suite, lathe: Lathe, command: str, kind: str) -> None:
    for verdict, code, words in (
        (measurement_pb2.VERDICT_WARN, 10, "parity WARN: digits/1, net/2"),
        (measurement_pb2.VERDICT_UNVERIFIED, 12, "unverified: digits/1, net/2"),
    ):
        answer(suite, kind, verdict)
        told = lathe(command, *SHORT)
        assert (told.code, words in told.err) == (code, True)


def test_quantizations_without_a_gain_are_named(suite: Suite, lathe: Lathe) -> None:
    answer(suite, "quantization", measurement_pb2.VERDICT_PASS)
    assert lathe("quantize", *SHORT, "--require-gain").code == 0
    suite.answers["GetQuantizationTask"].result.no_gain_reason = "int8 is slower here"
    told = lathe("quantize", *SHORT, "--require-gain")
    assert (told.code, "without a gain: digits/1, net/2" in told.err) == (11, True)
    assert lathe("quantize", *SHORT, "--report", "report.html").code == 2
