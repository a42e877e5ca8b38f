"""Waits until every process of a stack is ready. A worker announces itself in the WORKERS bucket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping

from services.local.errors import LocalError
from services.local.process import ChildProcess
from services.local.roster import WorkerEntry

_POLL_SECONDS = 0.1


def await_ready(
    names: Collection[str],
    ready: Callable[[Collection[str]], Collection[str]],
    processes: Mapping[str, ChildProcess],
    *,
    stopped: threading.Event,
    say: Callable[[str], None],
    timeout: float,
) -> None:
    """Ask which of the named processes are ready until all are; returns early when `stopped` is set.

    Each look takes processor time from those that start: `ready` should cost little while they do.

    Raises:
        LocalError: A process ended, or is not ready after `timeout` seconds; the message has the end of its log.
    """
    waiting = list(names)
    waited = 0.0
    while waiting and not stopped.is_set():
        for name in waiting:
            process = processes[name]
            if not process.running:
                raise LocalError(
                    f"{name} ended with status {process.exit_status} while starting.\n{process.log_tail()}"
                )
        for name in ready(waiting):
            waiting.remove(name)
            say(f"{name} is healthy")
        if waited > timeout:
            tails = "\n".join(processes[name].log_tail() for name in waiting)
            raise LocalError(f"Not healthy after {timeout:.0f} s: {', '.join(waiting)}.\n{tails}")
        stopped.wait(_POLL_SECONDS)
        waited += _POLL_SECONDS


def newest_announcements(nats_url: str, workers: Collection[WorkerEntry]) -> dict[str, int]:
    """Return the name of each entry and the sequence number of the newest announcement by such a worker; 0 if none.

    Raises:
        OSError: NATS does not answer.
    """
    return asyncio.run(_newest(nats_url, workers))


async def _newest(nats_url: str, workers: Collection[WorkerEntry]) -> dict[str, int]:
    import nats
    from nats.js.errors import NotFoundError

    newest = dict.fromkeys((entry.name for entry in workers), 0)
    connection = await nats.connect(nats_url.split(","), connect_timeout=2, allow_reconnect=False)
    try:
        for entry in workers:
            keys = f"{entry.kind}.{entry.device}.>" if entry.device else f"{entry.kind}.>"
            try:
                message = await connection.jetstream().get_last_msg("KV_WORKERS", f"$KV.WORKERS.{keys}")
            except NotFoundError:
                continue
            newest[entry.name] = message.seq or 0
    finally:
        await connection.close()
    return newest
