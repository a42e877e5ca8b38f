"""Two releases side by side: `python -m tests.chaos.upgrade --old COMMIT`.

An installation of the old release takes tasks. Replicas of this working tree's services are started beside its own,
which migrates the schemas under them. Then both take tasks, and in the end the new ones alone; the workers stay old.
Services of a release ask those of the same release: what both share is PostgreSQL, NATS and S3.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import psutil
from lathe_client.connection import Connection
from rich.console import Console

from services.local.roster import SERVICES
from tests.chaos.aftermath import Aftermath, look
from tests.chaos.installation import ROOT, Installation, running
from tests.chaos.load import Done, Load
from tests.chaos.restarts import Replicas
from tests.chaos.run import background


def checked_out(commit: str, folder: Path) -> Path:
    """Write the files of a commit to a folder, with the chaos of this working tree; return the folder."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract", "--directory", folder], input=archive, check=True)
    shutil.copytree(Path(__file__).parent, folder / "tests" / "chaos", dirs_exist_ok=True)
    return folder


class Round(NamedTuple):
    """What is created in each of the three times: with the old release, with both, with the new one."""

    tasks: int
    imports: int
    seconds: float

    def run(self, load: Load, seed: int) -> None:
        """Create it."""
        load.run(self.tasks, self.imports, self.seconds, random.Random(seed))


def upgrade(folder: Path, old: Path, each: Round) -> tuple[Done, Done, Aftermath]:
    """Let both releases work; return what the old and the new one acknowledged, and what is there in the end."""
    with running(folder, servers=1, tree=old) as installation:
        replicas = Replicas(installation, [entry.name for entry in SERVICES], apart=True)
        with (
            Connection(installation.addresses(), user="old") as before,
            Connection(replicas.addresses(), user="new") as after,
        ):
            first = Load(before, folder)
            first.prepare()
            with background(first.watch, first.release, stop=first.stop):
                first.watching.wait()
                each.run(first, 0)
                try:
                    for entry in SERVICES:
                        replicas.start(entry.name)
                    second = first.beside(after)
                    with background(second.watch, stop=second.stop):
                        second.watching.wait()
                        found = _both(installation, first, second, each)
                        return first.done, second.done, look(found, after, second)
                finally:
                    replicas.stop()


def _both(installation: Installation, first: Load, second: Load, each: Round) -> Installation:
    with background(lambda: each.run(second, 1), stop=lambda: None):
        each.run(first, 2)
    first.stop_releasing()
    first.stop()
    # They refuse to start again: the schemas are of a newer release.
    for entry in SERVICES:
        psutil.Process(installation.pids()[entry.name]).send_signal(signal.SIGTERM)
    time.sleep(2)
    each.run(second, 3)
    second.quiet(300)
    second.done.tasks += first.done.tasks
    second.done.imports += first.done.imports
    second.done.releases += first.done.releases
    return installation


def main() -> None:
    """Run and print what came of it; the status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.upgrade", description=__doc__)
    parser.add_argument("--old", required=True, help="commit or tag of the release before")
    parser.add_argument("--tasks", type=int, default=40, help="in each of the three times")
    parser.add_argument("--imports", type=int, default=4, help="in each of the three times")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the three times")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lathe-upgrade-") as made:
        old = checked_out(options.old, Path(made) / "old")
        each = Round(options.tasks, options.imports, options.seconds)
        before, after, found = upgrade(Path(made) / "state", old, each)
    console = Console()
    for title, done in (("old", before), ("new", after)):
        codes = Counter(done.codes)
        console.print(title, ", ".join(f"{service} {code} {n}" for (service, code), n in sorted(codes.items())))
    console.print({kind: dict(states) for kind, states in found.states.items()}, dict(found.imports))
    wrong = [*found.wrong, *(f"refused by the old release: {each}" for each in before.refusals)]
    for sentence in wrong:
        console.print(f"WRONG: {sentence}", markup=False)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
