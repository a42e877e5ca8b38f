"""Two releases side by side: `python -m tests.chaos.upgrade --old COMMIT`.

An installation of the old release takes tasks. Replicas of this working tree's services are started beside its own,
which migrates the schemas under them. Then both take tasks, from clients of each and from clients whose calls go to
both in turn, and in the end the new ones alone; the workers stay old. Services of a release ask those of the same
release: what both share is PostgreSQL, NATS and S3.
"""

from __future__ import annotations

import argparse
import json
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

import grpc
import psutil
from lathe_client.calls import Caller
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


class Either(Connection):
    """A connection to replicas of both releases, whose calls go to one and the other."""

    def channel(self, service: str) -> grpc.Channel:
        """Return the channel to both replicas of a service."""
        if service not in self._channels:
            policy = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))
            open_to = grpc.insecure_channel(self.addresses[service], [policy, ("grpc.enable_http_proxy", 0)])
            self._channels[service] = grpc.intercept_channel(open_to, Caller(self._metadata, self.project))
        return self._channels[service]


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
            Either(replicas.targets(), user="either") as any_of_both,
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
                        found = _both(installation, first, second, first.beside(any_of_both), each)
                        return first.done, second.done, look(found, after, second)
                finally:
                    replicas.stop()


def _both(installation: Installation, first: Load, second: Load, third: Load, each: Round) -> Installation:
    with background(lambda: each.run(second, 1), lambda: each.run(third, 4), stop=lambda: None):
        each.run(first, 2)
    first.stop_releasing()
    first.stop()
    # They refuse to start again: the schemas are of a newer release.
    for entry in SERVICES:
        psutil.Process(installation.pids()[entry.name]).send_signal(signal.SIGTERM)
    time.sleep(2)
    each.run(second, 3)
    second.quiet(300)
    for each_of in (first, third):
        second.done.tasks += each_of.done.tasks
        second.done.imports += each_of.done.imports
        second.done.releases += each_of.done.releases
        second.done.refusals += each_of.done.refusals
    second.done.codes.update(third.done.codes)
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
    for sentence in found.wrong:
        console.print(f"WRONG: {sentence}", markup=False)
    sys.exit(bool(found.wrong))


if __name__ == "__main__":
    main()
