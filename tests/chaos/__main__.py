"""Break an installation while it works, and hold it to what it promised: `python -m tests.chaos --seed 7`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.local.roster import SERVICES
from tests.chaos import clocks, restarts
from tests.chaos.faults import FAULTS
from tests.chaos.run import Plan, Report, run

INSIDE = "CHAOS_IN_NAMESPACES"
APART = frozenset({"cut", "disk"})
"""Faults that need namespaces of this process's own."""


def main() -> None:
    """Run once and print what came of it; the status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    usual = Plan()
    parser.add_argument("--tasks", type=int, default=usual.tasks, help="of four kinds (default: %(default)s)")
    parser.add_argument("--imports", type=int, default=usual.imports, help="of datasets (default: %(default)s)")
    parser.add_argument("--faults", type=int, default=usual.faults, help="how many (default: %(default)s)")
    parser.add_argument(
        "--kinds", default="", help=f"of faults: {','.join(FAULTS)}; all that this machine allows if empty"
    )
    parser.add_argument(
        "--restarts", type=int, default=1, help="of every service, and of two replicas (default: %(default)s)"
    )
    parser.add_argument(
        "--stand-ins-only", action="store_true", help="no conversion is real, which takes half as much of a processor"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the dice; chosen and printed if not given")
    parser.add_argument("--folder", type=Path, default=None, help="for the state, which is kept; must be empty")
    options = parser.parse_args()
    kinds = options.kinds.split(",") if options.kinds else list(FAULTS)
    if APART & set(kinds):
        enter_namespaces()
    for kind, missing in unable(kinds).items():
        sys.stderr.write(f"without {kind}: {missing}\n")
        kinds.remove(kind)
    seed = int(time.time()) % 100_000 if options.seed is None else options.seed
    replicas = [entry.name for entry in SERVICES]
    plan = Plan(
        options.tasks, options.imports, options.faults, kinds, options.restarts, replicas,
        real=not options.stand_ins_only, seed=seed,
    )  # fmt: skip
    sys.stderr.write(f"seed {seed}\n")
    begun = time.monotonic()

    def say(sentence: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begun:7.1f} s  {sentence}\n")

    with tempfile.TemporaryDirectory(prefix="lathe-chaos-") as made:
        report = run(options.folder or Path(made), plan, say)
    show(report, Console())
    sys.exit(bool(report.wrong))


def enter_namespaces() -> None:
    """Begin again in a network and mounts of this process's own, if this machine allows that."""
    if os.environ.get(INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    unshare = shutil.which("unshare")
    alone = ["--mount", "--net", "--propagation", "private"]
    if unshare and not subprocess.run([unshare, *alone, "true"], capture_output=True, check=False).returncode:
        os.environ[INSIDE] = "yes"
        os.execv(unshare, [unshare, *alone, sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


def unable(kinds: Sequence[str]) -> dict[str, str]:
    """Return which of these faults cannot be here, and why."""
    found: dict[str, str] = {}
    if not os.environ.get(INSIDE):
        found |= dict.fromkeys(APART, "this account may make no namespaces of networks and mounts")
    if clocks.library() is None:
        found["clock"] = "libfaketime is not installed (pip install libfaketime)"
    return {kind: why for kind, why in found.items() if kind in kinds}


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    plan, after = report.plan, report.after
    console.print(f"seed {plan.seed}: {plan.tasks} tasks, {plan.imports} imports, {report.harm.total()} faults")
    for title, told in report.restarts.items():
        console.print(restarts.table(f"restarts, {title}", told))
    harm = sorted((*each.split(" ", 1), n) for each, n in report.harm.items())
    console.print(_table("faults", ("fault", "part", "times"), harm))
    codes = sorted((service, code, n) for (service, code), n in report.done.codes.items())
    console.print(_table("calls of clients", ("service", "code", "calls"), codes))
    states = [
        (kind, ", ".join(f"{n} {state}" for state, n in found.items()), after.attempts[kind])
        for kind, found in after.states.items()
    ]
    console.print(_table("tasks", ("kind", "states", "attempts"), states))
    console.print(
        f"imports: {dict(after.imports)}; releases: {after.releases}; versions made by a real engine: "
        f"{after.by_engines}; blobs: {after.blobs}, of which {after.unreferred} were left by attempts that were killed"
    )
    for sentence, count in Counter(report.wrong).items():
        console.print(f"WRONG: {sentence}" + (f" ({count} times)" if count > 1 else ""), markup=False)
    console.print("nothing is wrong" if not report.wrong else f"{len(report.wrong)} things are wrong")


def _table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Table:
    table = Table(*heads, title=title)
    for row in rows:
        table.add_row(*map(str, row))
    return table


if __name__ == "__main__":
    main()
