"""The rules of the state machine, held against arbitrary histories."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import failure_pb2, task_pb2
from lathe.type.v1.digest_pb2 import Digest

from services.tasks.state import commands
from services.tasks.state.machine import OPEN, TERMINAL, Effect, Event, TaskSnapshot, apply, pending

NOW = Timestamp(seconds=100)


def event(attempt: int = 1, worker: str = "a", **kind: Any) -> event_pb2.TaskEvent:
    return event_pb2.TaskEvent(attempt=attempt, worker=worker, time=NOW, **kind)


def started(attempt: int = 1, worker: str = "a") -> event_pb2.TaskEvent:
    return event(attempt, worker, started=event_pb2.TaskStarted(device="cpu"))


def failed(*, retryable: bool, attempt: int = 1) -> event_pb2.TaskEvent:
    failure = failure_pb2.Failure(reason=failure_pb2.FAILURE_REASON_TIMEOUT, message="Too slow.", retryable=retryable)
    return event(attempt, failed=event_pb2.TaskFailed(failure=failure))


def succeeded(attempt: int = 1, worker: str = "a") -> event_pb2.TaskEvent:
    return event(attempt, worker, succeeded=event_pb2.TaskSucceeded(log=Digest(sha256="0" * 64)))


def returned(attempt: int = 1, worker: str = "a") -> event_pb2.TaskEvent:
    return event(attempt, worker, returned=event_pb2.TaskReturned())


def run(*events: Event, task: TaskSnapshot | None = None) -> TaskSnapshot:
    task = task or TaskSnapshot(pending())
    for each in events:
        task, _ = apply(task, each)
    return task


attempts = st.integers(0, 4)
workers = st.sampled_from(["a", "b"])
failures = st.builds(failure_pb2.Failure, message=st.just("x"), retryable=st.booleans())
events = st.one_of(
    st.builds(started, attempts, workers),
    st.builds(
        lambda number, worker, stage, progress: event(
            number, worker, progressed=event_pb2.TaskProgressed(stage=stage, progress=progress)
        ),
        attempts,
        workers,
        st.integers(1, 3),
        st.floats(0, 1),
    ),
    st.builds(succeeded, attempts, workers),
    st.builds(
        lambda number, worker, failure: event(number, worker, failed=event_pb2.TaskFailed(failure=failure)),
        attempts,
        workers,
        failures,
    ),
    st.builds(lambda number, worker: event(number, worker, cancelled=event_pb2.TaskCancelled()), attempts, workers),
    st.builds(returned, attempts, workers),
)
orders = st.one_of(
    st.just(commands.Cancel(NOW)),
    st.just(commands.CancelExpired(NOW)),
    st.builds(commands.Completed, st.just(NOW), attempts),
    st.builds(commands.CompletionFailed, st.just(NOW), attempts, failures),
    st.builds(commands.HandOn, st.just(NOW), attempts),
    st.just(commands.TakeAsBuilt(NOW)),
    st.builds(commands.WorkerLost, st.just(NOW), attempts),
    st.builds(commands.DeadLettered, st.just(NOW), attempts),
    st.just(commands.LeaderSucceeded(NOW)),
    st.builds(commands.LeaderFailed, st.just(NOW), failures),
    st.just(commands.Promote(NOW)),
)
histories = st.lists(st.one_of(events, orders), max_size=25)
beginnings = st.sampled_from([TaskSnapshot(pending()), TaskSnapshot(pending("t/1"), follows="t/1")])


@given(beginnings, histories)
def test_terminal_absorbs_and_attempts_only_grow(task: TaskSnapshot, history: list[Event]) -> None:
    for each in history:
        after, effects = apply(task, each)
        if task.terminal:
            assert after is task
            assert not effects
        assert after.attempt >= task.attempt
        numbers = [attempt.number for attempt in after.attempts]
        assert numbers == sorted(set(numbers))
        assert after.status.state in OPEN | TERMINAL
        assert (Effect.SETTLE in effects) == (after.terminal and not task.terminal)
        assert after.terminal == after.status.HasField("end_time")
        assert (after.status.state == task_pb2.TASK_STATE_FAILED) == after.status.HasField("failure")
        still_open = [a for a in after.attempts if a.outcome == task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED]
        assert still_open in ([], list(after.attempts[-1:]))
        if after.status.state == task_pb2.TASK_STATE_PENDING:
            assert not still_open
        task = after


@given(histories)
def test_progress_never_goes_back_within_an_attempt(history: list[Event]) -> None:
    task = TaskSnapshot(pending())
    furthest: dict[int, tuple[int, float]] = {}
    for each in history:
        after, _ = apply(task, each)
        if after.status.stage:
            number = after.attempt
            seen = furthest.get(number, (0, 0.0))
            assert (after.status.stage, after.status.progress) >= seen
            assert after.status.progress >= seen[1]
            furthest[number] = (after.status.stage, after.status.progress)
        task = after


@given(histories, events)
def test_a_repeated_event_changes_nothing(history: list[Event], each: event_pb2.TaskEvent) -> None:
    once = run(*history, each)
    assert apply(once, each)[0] is once or once.attempts[-1].outcome == task_pb2.ATTEMPT_OUTCOME_LOST


@given(histories, events)
def test_events_of_an_older_attempt_are_ignored(history: list[Event], each: event_pb2.TaskEvent) -> None:
    task = run(*history)
    if each.attempt < task.attempt:
        assert apply(task, each) == (task, ())


@given(st.permutations([started(), succeeded(), commands.Cancel(NOW), succeeded(), started()]))
def test_order_and_repeats_do_not_matter_to_a_success(history: list[Event]) -> None:
    task = run(*history)
    done = run(commands.Completed(NOW, 1), task=task)
    cancelled_first = task.status.state == task_pb2.TASK_STATE_CANCELLED
    assert cancelled_first or done.status.state == task_pb2.TASK_STATE_SUCCEEDED


@given(histories)
def test_a_cancelled_task_always_ends(history: list[Event]) -> None:
    task = run(*history, commands.Cancel(NOW))
    assert task.terminal or task.status.state == task_pb2.TASK_STATE_CANCELLING
    assert run(commands.CancelExpired(NOW), task=task).terminal


@given(histories)
def test_a_message_that_was_given_up_always_ends_its_task(history: list[Event]) -> None:
    assert run(*history, commands.DeadLettered(NOW, 99)).terminal


@given(histories)
def test_nothing_is_changed_in_place(history: list[Event]) -> None:
    task = TaskSnapshot(pending())
    for each in history:
        before = (task.status.SerializeToString(), [attempt.SerializeToString() for attempt in task.attempts])
        after, _ = apply(task, each)
        assert before == (task.status.SerializeToString(), [attempt.SerializeToString() for attempt in task.attempts])
        task = after


def test_a_success_is_complete_only_after_its_effects() -> None:
    task, effects = apply(run(started()), succeeded())
    assert effects == (Effect.COMPLETE,)
    assert task.status.state == task_pb2.TASK_STATE_RUNNING
    assert task.status.stage == failure_pb2.TASK_STAGE_REGISTERING
    assert task.attempts[-1].log.sha256
    assert run(commands.Completed(NOW, 2), task=task) is task
    done = run(commands.Completed(NOW, 1), task=task)
    assert done.status.state == task_pb2.TASK_STATE_SUCCEEDED
    assert done.attempts[-1].outcome == task_pb2.ATTEMPT_OUTCOME_SUCCEEDED


def test_retryable_failures_use_up_the_attempts() -> None:
    task = TaskSnapshot(pending(), max_attempts=2)
    task = run(started(), failed(retryable=True), task=task)
    assert task.status.state == task_pb2.TASK_STATE_PENDING
    assert "Attempt 1 of 2" in task.status.pending_reason
    task = run(started(2), failed(retryable=True, attempt=2), task=task)
    assert task.status.state == task_pb2.TASK_STATE_FAILED


def test_what_a_stopped_worker_gives_back_does_not_use_up_attempts() -> None:
    task = TaskSnapshot(pending(), max_attempts=2)
    for attempt in (1, 2, 3):
        task, effects = apply(run(started(attempt), task=task), returned(attempt))
        assert (task.status.state, effects) == (task_pb2.TASK_STATE_PENDING, (Effect.DISPATCH,))
    task = run(started(4), failed(retryable=True, attempt=4), task=task)
    assert task.status.state == task_pb2.TASK_STATE_PENDING
    assert "Attempt 1 of 2" in task.status.pending_reason
    assert run(started(5), commands.WorkerLost(NOW, 5), task=task).status.state == task_pb2.TASK_STATE_FAILED
    assert run(started(5), commands.Cancel(NOW), returned(5), task=task).status.state == task_pb2.TASK_STATE_CANCELLED


def test_a_success_that_is_handed_on_waits_for_another_worker_and_does_not_count() -> None:
    task = TaskSnapshot(pending(), max_attempts=1)
    task, effects = apply(run(started(), succeeded(), task=task), commands.HandOn(NOW, 1))
    assert (task.status.state, effects) == (task_pb2.TASK_STATE_PENDING, (Effect.DISPATCH,))
    assert "a worker on the device goes on" in task.status.pending_reason
    assert task.handed_on == task.attempts[0]
    assert run(succeeded(), commands.HandOn(NOW, 1), commands.Completed(NOW, 1), task=task) is task
    going_on = run(started(2, "b"), task=task)
    done = run(succeeded(2, "b"), commands.Completed(NOW, 2), task=going_on)
    assert done.status.state == task_pb2.TASK_STATE_SUCCEEDED
    assert [each.outcome for each in done.attempts] == [
        task_pb2.ATTEMPT_OUTCOME_HANDED_ON,
        task_pb2.ATTEMPT_OUTCOME_SUCCEEDED,
    ]
    assert run(commands.WorkerLost(NOW, 2), task=going_on).status.state == task_pb2.TASK_STATE_FAILED
    assert run(commands.Cancel(NOW), task=task).status.state == task_pb2.TASK_STATE_CANCELLED
    cancelled = run(started(), commands.Cancel(NOW), succeeded(), commands.HandOn(NOW, 1))
    assert cancelled.status.state == task_pb2.TASK_STATE_CANCELLED


def test_what_nobody_goes_on_from_is_recorded_as_an_attempt_of_its_own() -> None:
    task = run(started(), succeeded(), commands.HandOn(NOW, 1), started(2, "b"), commands.WorkerLost(NOW, 2))
    assert run(commands.TakeAsBuilt(NOW), task=run(started())).status.stage != failure_pb2.TASK_STAGE_REGISTERING
    taken = run(commands.TakeAsBuilt(NOW), task=task)
    assert (taken.attempt, taken.attempts[-1].worker) == (3, "a")
    late = run(succeeded(2, "b"), started(3, "b"), succeeded(3, "b"), commands.TakeAsBuilt(NOW), task=taken)
    assert late is taken
    assert run(commands.Completed(NOW, 3), task=taken).status.state == task_pb2.TASK_STATE_SUCCEEDED


def test_a_permanent_failure_ends_a_task_that_is_being_cancelled() -> None:
    assert run(started(), commands.Cancel(NOW), failed(retryable=False)).status.state == task_pb2.TASK_STATE_FAILED
    assert run(started(), commands.Cancel(NOW), failed(retryable=True)).status.state == task_pb2.TASK_STATE_CANCELLED


@given(histories, events)
def test_who_was_not_given_the_task_changes_nothing(history: list[Event], each: event_pb2.TaskEvent) -> None:
    """A stranger knows neither the attempt nor its worker; a number that is too high is a new attempt."""
    task = run(*history)
    stranger = event_pb2.TaskEvent()
    stranger.CopyFrom(each)
    stranger.worker = "stranger"
    if each.attempt <= task.attempt:
        assert apply(task, stranger) == (task, ())


def test_a_cancelled_task_takes_no_result_of_an_attempt_that_nobody_knew() -> None:
    cancelling = run(started(), commands.Cancel(NOW))
    for late in (succeeded(9, "stranger"), failed(retryable=False, attempt=9)):
        after, effects = apply(cancelling, late)
        assert (after.status.state, effects) == (task_pb2.TASK_STATE_CANCELLED, (Effect.SETTLE,))
    assert run(succeeded(1, "stranger"), task=cancelling) is cancelling


def test_a_lower_progress_changes_the_words_alone() -> None:
    def at(progress: float, message: str) -> event_pb2.TaskEvent:
        return event(
            progressed=event_pb2.TaskProgressed(
                stage=failure_pb2.TASK_STAGE_EXECUTING, progress=progress, message=message
            )
        )

    task = run(started(), at(0.6, "timing"), at(0.2, "building again"))
    assert (task.status.progress, task.status.message) == (0.6, "building again")


def test_a_success_that_is_being_recorded_needs_no_worker() -> None:
    task = run(started(), succeeded())
    assert run(commands.WorkerLost(NOW, 1), task=task) is task
    assert run(commands.DeadLettered(NOW, 1), task=task) is task
    assert run(commands.DeadLettered(NOW, 2), task=task).status.state == task_pb2.TASK_STATE_FAILED


def test_a_lost_worker_that_speaks_again_goes_on() -> None:
    task = run(started(), commands.WorkerLost(NOW, 1))
    assert task.status.state == task_pb2.TASK_STATE_PENDING
    assert run(started(2, "b"), succeeded(1, "a"), task=task).attempts[0].outcome == task_pb2.ATTEMPT_OUTCOME_LOST
    revived = run(succeeded(), commands.Completed(NOW, 1), task=task)
    assert revived.status.state == task_pb2.TASK_STATE_SUCCEEDED


def test_a_follower_ends_with_its_leader_or_runs() -> None:
    follower = TaskSnapshot(pending("t/1"), follows="t/1")
    assert run(commands.LeaderSucceeded(NOW), task=follower).status.state == task_pb2.TASK_STATE_SUCCEEDED
    promoted, effects = apply(follower, commands.Promote(NOW))
    assert effects == (Effect.DISPATCH,)
    assert run(commands.LeaderSucceeded(NOW), task=promoted) is promoted
