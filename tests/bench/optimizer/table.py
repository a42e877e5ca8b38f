"""What the benchmark prints: a table per model, one over all models, the means, and why Lathe won nothing if so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.bench import child
from tests.bench.optimizer.contest import CONTROL
from tests.bench.optimizer.figures import OURS, Outcome, Versus, summary
from tests.bench.optimizer.olive import PRECISIONS
from tests.bench.optimizer.ours import GOALS
from tests.bench.optimizer.peers import BASELINE, PEERS

_MOST_NOTES = 8
_GOAL_OF = {
    "FP32": "FP32 ≥ 2.2×",
    "BF16": "BF16 ≥ 3.5×",
    "INT8": "any precision with cosine ≥ 0.99 ≥ 5.0×",
}


def rows(lines: Sequence[Sequence[str]]) -> str:
    """Return a table, its head first, columns as wide as what is in them."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    ruled = [padded[0], ["-" * width for width in widths], *padded[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def model_table(outcome: Outcome) -> str:
    """Return one model's table, and Lathe's choices beside the best defaults."""
    baseline = outcome.standings.get(BASELINE)
    lines = [["form", "", "precision", "median ms", "× frozen TorchScript (95 %)", "cosine", "max rel", "MiB"]]
    for standing in outcome.standings.values():
        if not standing.turns:
            lines.append([standing.name, standing.form, standing.precision, "failed", "", "", "", ""])
            continue
        speed = _interval(*standing.faster_than(baseline)) if baseline else ""
        parity = f"{standing.cosine:.5f}{'' if outcome.holds(standing) else ' wrong'}"
        memory = f"{standing.memory_bytes / child.MIB:.0f}"
        form = standing.form if standing.name.startswith(OURS) else ""
        cells = [standing.name, form, standing.precision, _ms(standing.median_ms), speed, parity]
        lines.append([*cells, f"{standing.max_rel:.1e}", memory])
    said = [f"\n{outcome.title}\n\n{rows(lines)}\n"]
    said += [f"- {name}: {each.failure}" for name, each in outcome.standings.items() if each.failure]
    said += [f"- {OURS}{goal}: {search.failure}" for goal, search in outcome.searches.items() if search.failure]
    said += [line for goal in GOALS for line in _beside(outcome, goal)]
    return "\n".join([*said, *_controls(outcome)])


def _beside(outcome: Outcome, goal: str) -> list[str]:
    versus = outcome.versus(goal)
    if versus is None:
        return []
    search = outcome.searches.get(goal)
    took = f", found in {search.seconds:.0f} s" if search else ""
    ratio = _interval(versus.ratio, versus.low, versus.high)
    line = f"- {goal}: {versus.chosen.form} / {versus.default.name}: {ratio}{took}"
    return [line] if versus.verdict == "wins" else [line, *_reasons(outcome, versus)]


def _reasons(outcome: Outcome, versus: Versus) -> list[str]:
    """Return what the search says if it won nothing: of the forms of the best default's runtime, and of gains."""
    search = outcome.searches.get(versus.goal)
    if search is None:
        return []
    why = search.no_gain_reason or f"noise alone makes {versus.noise:.2f}×; the search tried:"
    said = [f"  - {versus.verdict}: {why}"]
    runtime = _RUNTIMES.get(PEERS.get(versus.default.name, ("onnxruntime", ""))[0], "")
    return [*said, *(f"    - {note}" for note in search.notes() if note.startswith(runtime))][: _MOST_NOTES + 1]


_RUNTIMES = {
    "frozen": "torchscript",
    "frozen-bf16": "torchscript",
    "compile": "inductor",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "openvino-f32": "openvino",
}


def _controls(outcome: Outcome) -> list[str]:
    found = []
    for name, standing in outcome.standings.items():
        first = outcome.standings.get(name.removesuffix(CONTROL))
        if name.endswith(CONTROL) and first and first.turns and standing.turns:
            found.append(f"- noise: {first.name} over itself {_interval(*first.faster_than(standing))}")
    return found


def all_models(outcomes: Sequence[Outcome]) -> str:
    """Return the median milliseconds of every form of every model, and Lathe's ratios to the best default."""
    ours = [OURS + goal for goal in GOALS]
    names = [*PEERS, *PRECISIONS, *ours]
    names = [name for name in names if any(name in outcome.standings for outcome in outcomes)]
    lines = [["model", *names, *(f"{goal} / best default" for goal in GOALS)]]
    for outcome in outcomes:
        beside = [outcome.versus(goal) for goal in GOALS]
        ratios = [f"{versus.ratio:.2f}×" if versus else "–" for versus in beside]
        lines.append([outcome.title, *(_cell(outcome, name) for name in names), *ratios])
    return (
        rows(lines) + "\n\nMedian ms; in parentheses, how many times faster than frozen TorchScript; * wrong results."
    )


def _cell(outcome: Outcome, name: str) -> str:
    standing, baseline = outcome.standings.get(name), outcome.standings.get(BASELINE)
    if standing is None or not standing.turns:
        return "–"
    speed = f" ({standing.faster_than(baseline)[0]:.2f}×)" if baseline else ""
    return f"{_ms(standing.median_ms)}{'' if outcome.holds(standing) else '*'}{speed}"


def means(outcomes: Sequence[Outcome]) -> str:
    """Return the means that the goals are about."""
    found = summary(outcomes)
    said = []
    for goal, values in found.items():
        missing = values["of"] - values["models"]
        short = f", {missing} without a choice that holds" if missing else ""
        said.append(
            f"{goal}: chosen / best default {_times(values['versus'])} (goal 1.02×), "
            f"at worst {_times(values['worst'])} (goal 0.97×); "
            f"over frozen TorchScript {_times(values['speedup'])} (goal {_GOAL_OF[goal]}), "
            f"best defaults {_times(values['default_speedup'])}; {values['models']} models{short}"
        )
    said.append(f"int8 forms with cosine ≥ 0.99: {found['INT8']['int8']} of {found['INT8']['of']}")
    return "\n".join(said)


def _interval(ratio: float, low: float, high: float) -> str:
    return "" if math.isnan(ratio) else f"{ratio:.2f}× ({low:.2f}–{high:.2f})"


def _times(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}×"


def _ms(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
