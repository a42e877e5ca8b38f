"""Runs a job again by hand, from the files that its child left in the work directory."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from engines.sandbox.types import Limits, Progress, Reporter


def rerun(workdir: Path) -> None:
    """Run the job of a work directory again and print its result as JSON; reads the command line."""
    parser = argparse.ArgumentParser(description="Runs the job in request.json again.")
    parser.add_argument("--bare", action="store_true", help="run in this process, without any protection")
    bare = parser.parse_args().bare
    job = json.loads((workdir / "request.json").read_text(encoding="utf-8"))
    result = _bare(job, workdir) if bare else _sandboxed(job, workdir)
    print(json.dumps(result, indent=2))  # noqa: T201 - this is a command


def _bare(job: dict[str, Any], workdir: Path) -> object:
    from importlib import import_module

    module, _, function = job["entry"].partition(":")
    return getattr(import_module(module), function)(job["request"], workdir, Reporter(_show))


def _sandboxed(job: dict[str, Any], workdir: Path) -> object:
    from engines.sandbox.parent import run_sync

    limits = Limits(job["memory_bytes"], job["timeout_seconds"])
    readable = [Path(path) for path in job["readable"]]
    return run_sync(job["entry"], job["request"], workdir, limits, readable=readable, on_progress=_show, on_log=_print)


def _show(progress: Progress) -> None:
    _print(f"{progress.fraction:4.0%} {progress.message}")


def _print(line: str) -> None:
    sys.stderr.write(line + "\n")
