"""The workers that one machine can start for further devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from services.local.roster import WORKERS, WorkerEntry
from services.tasks.worker.process import served_device, why_not_run


def workers_for(devices: Iterable[str]) -> list[WorkerEntry]:
    """Return the workers of further devices: those of every kind that this machine can serve for each.

    Raises:
        ConfigurationError: A device cannot be served here; the message says what is missing.
    """
    found = []
    for name in dict.fromkeys(devices):
        runs = not why_not_run(served_device(name, "--device"))
        found += [
            replace(entry, name=f"{entry.name}-{name}", device=name)
            for entry in WORKERS
            if runs or not entry.runs_forms
        ]
    return found
