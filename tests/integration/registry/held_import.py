"""An import that goes on until it is ended, for tests of what happens meanwhile, however busy the machine is."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engines.sandbox import Child, Reporter
from services.registry.datasets import job

HELD = {
    "IMPORT": "tests.integration.registry.held_import:run",
    "Child": SimpleNamespace(spawn=partial(Child.spawn, readable=[Path(__file__).parents[2]])),
}
"""What is to stand in `services.registry.datasets.job`, by name."""


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Do nothing, without an end; runs in the child."""
    while True:
        time.sleep(1)


def hold() -> None:
    """Hold every import of this process, for good."""
    for name, value in HELD.items():
        setattr(job, name, value)
