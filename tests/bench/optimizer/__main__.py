"""Lathe's optimizer beside what users get today: `python -m tests.bench.optimizer [--quick] [--models a,b] …`.

Each model is exported once. Every form then runs in a process of its own, all of them in turns of one run: the peers
(eager, frozen TorchScript, torch.compile, ONNX Runtime and OpenVINO as they come, TorchScript in bfloat16), what Olive
makes of the model by itself, and what Lathe's optimizer chose at each goal: FP32, BF16 and INT8, the lowest precision
that it may use. Parity is against eager in float32, on inputs that no search has seen. Two forms stand twice, so that
noise can be told. Random weights but for MiniLM.

`--olive` names the Python of an environment that has Olive, or the word `install`: one is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from engines.spec.toolchain import hardware, software
from tests.bench import child
from tests.bench.optimizer import olive, ours, table
from tests.bench.optimizer.contest import Entrant, Standing, hold
from tests.bench.optimizer.figures import OURS, Outcome, summary
from tests.bench.optimizer.layout import Layout, LayoutError
from tests.bench.optimizer.peers import BASELINE, PEERS, PeerRunner, peer
from tests.bench.optimizer.zoo import QUICK, ZOO, Model

_SOFTWARE = ("torch", "onnxruntime", "openvino", "nncf", "onnx", "numpy")


def measure(model: Model, options: argparse.Namespace, python: Path | None) -> Outcome:
    """Search and hold the contest of one model."""
    outcome = Outcome(model.name, model.title, model.counted, model.tolerance)
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        layout = Layout.make(model, folder / "model")
        entrants = [
            Entrant(title, peer(layout, kind, precision), PeerRunner) for title, (kind, precision) in PEERS.items()
        ]
        failed = _add_olive(entrants, layout, python) if python else {}
        _add_ours(entrants, outcome, layout, folder, options)
        controls = (BASELINE, entrants[-1].name)
        outcome.standings = hold(
            entrants, layout.feeds, layout.truth, folder / "runners", rounds=options.rounds, controls=controls
        )
        outcome.standings |= failed
    return outcome


def _add_olive(entrants: list[Entrant], layout: Layout, python: Path) -> dict[str, Standing]:
    failed = {}
    for name, (_, precision) in olive.PRECISIONS.items():
        try:
            entrants.append(Entrant(name, olive.optimize(layout, python, name), PeerRunner))
        except olive.OliveError as error:
            failed[name] = Standing(name, precision, "", failure=str(error))
    return failed


def _add_ours(
    entrants: list[Entrant], outcome: Outcome, layout: Layout, folder: Path, options: argparse.Namespace
) -> None:
    earlier: Path | None = None
    for goal in options.goals:
        here = folder / goal
        budget = options.int8_budget if goal == "INT8" else options.budget
        found = outcome.searches[goal] = ours.search(layout, goal, here, budget, earlier)
        if found.made:
            entrants.append(Entrant(OURS + goal, found.made))
            earlier = here


def _write(path: Path, outcomes: dict[str, Outcome]) -> None:
    values = {
        "hardware": hardware(),
        "cores": child.cores(),
        "software": software(_SOFTWARE),
        "summary": summary(list(outcomes.values())),
        "models": [outcome.to_dict() for outcome in outcomes.values()],
    }
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _read(path: Path | None) -> dict[str, Outcome]:
    if path is None or not path.is_file():
        return {}
    found = [Outcome.from_dict(row) for row in json.loads(path.read_text(encoding="utf-8"))["models"]]
    return {outcome.model: outcome for outcome in found}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(ZOO), help=f"of {', '.join(ZOO)}")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} alone, in short searches")
    parser.add_argument("--rounds", type=int, default=21, help="turns of each form")
    parser.add_argument("--budget", type=int, default=120, help="seconds of each search in floating point")
    parser.add_argument("--int8-budget", type=int, default=300, help="seconds of each search that may quantize")
    parser.add_argument("--goals", type=lambda text: [word for word in text.split(",") if word], default=ours.GOALS)
    parser.add_argument("--olive", default="", help="Python of an environment with Olive, or `install`")
    parser.add_argument("--json", type=Path, help="where the figures go; models that are there already are kept")
    parser.add_argument("--show", action="store_true", help="measure nothing, print what --json holds")
    options = parser.parse_args()
    if options.quick:
        options.models, options.rounds = list(QUICK), min(options.rounds, 7)
        options.budget, options.int8_budget = min(options.budget, 40), min(options.int8_budget, 60)
    unknown = [*(set(options.models) - set(ZOO)), *(set(options.goals) - set(ours.GOALS))]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return options


def _python(options: argparse.Namespace, stack: ExitStack) -> Path | None:
    if options.olive != "install":
        return Path(options.olive).absolute() if options.olive else None
    return olive.environment(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lathe-olive-"))) / "venv")


def main() -> None:
    """Print the tables."""
    options = _options()
    outcomes = _read(options.json)
    print(f"{child.cores()} cores of {hardware()}, load {os.getloadavg()[0]:.1f}", flush=True)
    with ExitStack() as stack:
        python = _python(options, stack)
        for name in () if options.show else options.models:
            try:
                outcomes[name] = measure(ZOO[name], options, python)
            except LayoutError as error:
                print(f"\n{ZOO[name].title}: the export failed: {error}", file=sys.stderr)
                continue
            print(table.model_table(outcomes[name]), flush=True)
            if options.json:
                _write(options.json, outcomes)
    found = [outcomes[name] for name in ZOO if name in outcomes]
    if found:
        print(f"\n{table.all_models(found)}\n\n{table.means(found)}")


if __name__ == "__main__":
    main()
