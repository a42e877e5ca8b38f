"""Waits until every process of a stack is ready. A worker announces itself in the WORKERS bucket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

from services.local.errors import LocalError
from services.local.process import ChildProcess
from services.local.roster import WorkerEntry

_POLL_SECONDS = 0.05


def await_ready(
    checks: Mapping[str, Callable[[], bool]],
    processes: Mapping[str, ChildProcess],
    *,
    stopped: threading.Event,
    say: Callable[[str], None],
    timeout: float,
) -> None:
    """Repeat the check of each process until it succeeds; returns early when `stopped` is set.

    Raises:
        LocalError: A process ended, or is not ready after `timeout` seconds; the message has the end of its log.
    """
    waiting = dict(checks)
    waited = 0.0
    while waiting and not stopped.is_set():
        for name, ready in list(waiting.items()):
            process = processes[name]
            if not process.running:
                raise LocalError(
                    f"{name} ended with status {process.exit_status} while starting.\n{process.log_tail()}"
                )
            if ready():
                del waiting[name]
                say(f"{name} is healthy")
        if waited > timeout:
            tails = "\n".join(processes[name].log_tail() for name in waiting)
            raise LocalError(f"Not healthy after {timeout:.0f} s: {', '.join(waiting)}.\n{tails}")
        stopped.wait(_POLL_SECONDS)
        waited += _POLL_SECONDS


def newest_announcement(nats_url: str, worker: WorkerEntry) -> int:
    """Return the sequence number of the newest announcement by such a worker; 0 if there is none.

    Raises:
        OSError: NATS does not answer.
    """
    return asyncio.run(_newest(nats_url, f"{worker.kind}.{worker.device}.>" if worker.device else f"{worker.kind}.>"))


async def _newest(nats_url: str, keys: str) -> int:
    import nats
    from nats.js.errors import NotFoundError

    connection = await nats.connect(nats_url.split(","), connect_timeout=2, allow_reconnect=False)
    try:
        message = await connection.jetstream().get_last_msg("KV_WORKERS", f"$KV.WORKERS.{keys}")
        return message.seq or 0
    except NotFoundError:
        return 0
    finally:
        await connection.close()
