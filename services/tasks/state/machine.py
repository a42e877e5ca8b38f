"""The state machine of a task: pure, without I/O.

    PENDING ─claim→ RUNNING ─→ SUCCEEDED | FAILED
       │ ▲            └─ retryable failure or lost lease, attempt < max ─→ PENDING
       ├─ cache hit ─→ SUCCEEDED        └─ dead letter ─→ FAILED
    PENDING | RUNNING ─Cancel→ CANCELLING → CANCELLED | SUCCEEDED | FAILED

Rules:

1.  Terminal states absorb: nothing changes a SUCCEEDED, FAILED or CANCELLED task.
2.  Attempts only grow. An event of an attempt older than the newest is ignored, and so is one of the newest attempt
    that comes from another worker, or after the attempt ended.
3.  The first event of a newer attempt claims the task, whichever it is: `started` may be late or lost. An attempt that
    was still open then is ATTEMPT_LOST.
4.  An attempt given up as ATTEMPT_LOST revives when its worker is heard of again and no newer attempt has begun.
5.  Within an attempt, stage and progress never go back: an event of an earlier stage is ignored, and a lower progress
    changes the words alone.
6.  `succeeded` moves to the stage REGISTERING and asks for COMPLETE; only `Completed`, of the same attempt, makes the
    task SUCCEEDED. A repeat of `succeeded` asks again: completing is idempotent. Meanwhile the worker is not needed any
    more: neither its loss nor a dead letter ends the attempt.
7.  A retryable failure or a lost worker returns the task to PENDING while attempts remain, and fails it otherwise.
8.  Cancel ends a PENDING task at once, and makes a RUNNING one CANCELLING. From CANCELLING every end of an attempt ends
    the task: success and permanent failure stand as they are, anything else is CANCELLED.
9.  A worker that is stopped gives its task back: PENDING again, with a new message, and the attempt does not count.
10. A success that was made elsewhere than on the device may be handed on: PENDING again, for workers on the device
    alone, and the attempt does not count. If none goes on, what was made is recorded, as an attempt of its own.
11. A follower is PENDING without a message of its own; it ends with its leader or is promoted and then runs itself.

`worker_events` and `service_commands` hold the transitions.
"""

from __future__ import annotations

from lathe.internal.v1 import event_pb2

from services.tasks.state.commands import Command
from services.tasks.state.service_commands import apply_command
from services.tasks.state.snapshot import OPEN, TERMINAL, Effect, Step, TaskSnapshot, pending
from services.tasks.state.worker_events import apply_event

__all__ = ["OPEN", "TERMINAL", "Effect", "Event", "Step", "TaskSnapshot", "apply", "pending"]

Event = event_pb2.TaskEvent | Command


def apply(task: TaskSnapshot, event: Event) -> Step:
    """Return the task after the event and what to do about it; the very same task if the event changes nothing."""
    if task.terminal:
        return task, ()
    if isinstance(event, event_pb2.TaskEvent):
        return apply_event(task, event)
    return apply_command(task, event)
