"""Models whose code does what it must not: each task fails with a reason that names it, and nothing is left behind."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from lathe.converter.v1 import conversion_service_pb2 as converter
from lathe.registry.v1 import architecture_service_pb2 as architecture
from lathe.type.v1 import failure_pb2, task_pb2

from services.platform.words import word
from tests.e2e.desk import Desk
from tests.eventually import wait_for

# Where the account's home really is: $HOME is another folder in the sandbox.
AT_HOME = "import os, pwd; home = pwd.getpwuid(os.getuid()).pw_dir"
TRACE = f"lathe-e2e-{uuid.uuid4().hex}"
BEFORE = {
    "Endless": "    while True: pass",
    "Hog": "    held = bytearray(100 << 30)",
    "Shell": f"    import os\n    try: os.system('touch /tmp/{TRACE}')\n    except BaseException: pass",
    "Homely": f"    {AT_HOME}\n    open(home + '/{TRACE}', 'w').write('here')",
    "Caller": "    import socket\n    socket.create_connection(('127.0.0.1', 22))",
    "Clumsy": "    raise ZeroDivisionError('no such luck')",
}


@pytest.fixture(scope="module")
def tasks(desk: Desk) -> Iterator[dict[str, converter.ConversionTask]]:
    """One task per hostile architecture, all of them waiting in line; and a look at what they left."""
    # The same weights fit all of them but one: that network is twice as wide.
    versions = {
        name: desk.push("hostile", desk.weights[0], desk.register(name, before).rpartition("/")[2])
        for name, before in BEFORE.items()
    }
    desk.register("Wide", "    pass", width=8)
    versions["Wide"] = desk.push("hostile", desk.weights[0], "Wide")
    limits = {"Endless": {"timeout": Duration(seconds=3)}}
    made = {name: desk.create(version, **limits.get(name, {})) for name, version in versions.items()}
    made["Keyless"] = desk.create(desk.plain)
    before = desk.versions("tiny")
    yield made
    for task in made.values():
        desk.cancel(task)
    wait_for(desk.clean)
    assert len(desk.versions("hostile")) == len(versions)
    assert desk.versions("tiny") == before


def failed(desk: Desk, task: converter.ConversionTask) -> failure_pb2.Failure:
    """Wait for a task, which must fail at its first attempt, and return why."""
    ended = desk.finish(task)
    assert ended.status.state == task_pb2.TASK_STATE_FAILED, ended
    assert not ended.HasField("result")
    failure: failure_pb2.Failure = ended.status.failure
    assert failure.stage == failure_pb2.TASK_STAGE_EXECUTING
    assert failure.message
    assert len(ended.attempts) == 1, ended.attempts
    return failure


def reason(failure: failure_pb2.Failure) -> str:
    return word(failure_pb2.FailureReason, failure.reason)


def test_an_endless_loop_ends_at_its_time_limit(desk: Desk, tasks: dict[str, converter.ConversionTask]) -> None:
    failure = failed(desk, tasks["Endless"])
    assert reason(failure) == "TIMEOUT"
    assert "3" in failure.message


def test_a_hundred_gigabytes_are_not_given(desk: Desk, tasks: dict[str, converter.ConversionTask]) -> None:
    assert reason(failed(desk, tasks["Hog"])) == "OUT_OF_MEMORY"


def test_a_shell_command_is_named_and_not_run(desk: Desk, tasks: dict[str, converter.ConversionTask]) -> None:
    failure = failed(desk, tasks["Shell"])
    assert reason(failure) == "UNSAFE_MODEL"
    assert f"touch /tmp/{TRACE}" in failure.message
    assert not Path("/tmp", TRACE).exists()


def test_a_write_to_the_home_directory_is_named_and_not_done(
    desk: Desk, tasks: dict[str, converter.ConversionTask]
) -> None:
    failure = failed(desk, tasks["Homely"])
    assert reason(failure) == "UNSAFE_MODEL"
    assert TRACE in failure.message
    assert not Path.home().joinpath(TRACE).exists()


def test_a_call_over_the_network_is_named(desk: Desk, tasks: dict[str, converter.ConversionTask]) -> None:
    failure = failed(desk, tasks["Caller"])
    assert reason(failure) == "UNSAFE_MODEL"
    assert "127.0.0.1" in failure.message


def test_an_exception_is_told_with_its_line(desk: Desk, tasks: dict[str, converter.ConversionTask]) -> None:
    failure = failed(desk, tasks["Clumsy"])
    assert reason(failure) == "INVALID_ARCHITECTURE"
    told = failure.message + failure.evidence
    assert "no such luck" in told
    assert "(ClumsyNet.py:6)" in told


def test_weights_that_do_not_fit_are_named_with_their_shapes(
    desk: Desk, tasks: dict[str, converter.ConversionTask]
) -> None:
    failure = failed(desk, tasks["Wide"])
    assert reason(failure) == "WEIGHTS_MISMATCH"
    told = failure.message + failure.evidence
    assert "0.weight" in told
    assert "architecture 8*3*3*3, weights 4*3*3*3" in told


def test_a_key_that_the_checkpoint_lacks_is_named(desk: Desk, tasks: dict[str, converter.ConversionTask]) -> None:
    failure = failed(desk, tasks["Keyless"])
    assert reason(failure) in ("WEIGHTS_MISMATCH", "INVALID_SPEC", "INVALID_MODEL")
    assert "state_dict" in failure.message + failure.evidence


def test_what_failed_certifies_nothing(desk: Desk, tasks: dict[str, converter.ConversionTask]) -> None:
    for task in tasks.values():
        desk.finish(task)
    for name in (*BEFORE, "Wide"):
        request = architecture.GetArchitectureRequest(name=f"architectures/{name.lower()}")
        found = desk.rpc.architectures.GetArchitecture(request)
        assert found.certification == architecture.CERTIFICATION_UNCERTIFIED


def test_a_running_engine_stops_when_its_task_is_cancelled(desk: Desk) -> None:
    version = desk.push("spinning", desk.weights[0], desk.register("Spin", BEFORE["Endless"]).rpartition("/")[2])
    task = desk.create(version)
    wait_for(lambda: desk.get(task).status.stage == failure_pb2.TASK_STAGE_EXECUTING)
    running = desk.sandboxes()
    desk.rpc.conversions.CancelConversionTask(converter.CancelConversionTaskRequest(name=task.name))
    ended = desk.finish(task)
    assert ended.status.state == task_pb2.TASK_STATE_CANCELLED
    assert [attempt.outcome for attempt in ended.attempts] == [task_pb2.ATTEMPT_OUTCOME_CANCELLED]
    # One of them may be the warm child of the next task.
    wait_for(lambda: len([child for child in running if child.is_running()]) < len(running))
    wait_for(desk.clean)
    assert len(desk.versions("spinning")) == 1
