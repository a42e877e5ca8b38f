"""Fast quantized forms that miss the tolerance are repaired, and a search that has to choose chooses."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.form import OPEN_QUANTIZER, FormSpec, Made
from engines.search import contenders, final
from engines.search.journal import Death, Journal
from engines.search.request import Plan, SearchSettings
from engines.search.search import SearchResult, search
from engines.search.truth import Thresholds, Truth
from tests.unit.optimization.forms import BASELINE, form, prepared, state_times

STEPS = 200
NODES = tuple(f"node{number}" for number in range(8))
SLOW = FormSpec("onnxruntime", "FP32", knobs=(("test", "slow"),))
QUICK = FormSpec("onnxruntime", "INT8", "a quantizer")


@dataclass
class Quantizer:
    """Makes forms of the graph that are wrong unless enough nodes are kept, and tells which cost most."""

    workdir: Path
    needed: int = 3
    asked: list[FormSpec] = field(default_factory=list)
    ordered: list[FormSpec] = field(default_factory=list)

    def make(self, spec: FormSpec) -> Made:
        self.asked.append(spec)
        wrong = bool(spec.quantizer) and len(spec.kept) < self.needed and spec.quantizer != "another"
        steps = 0 if spec.quantizer else STEPS
        built = form(self.workdir / f"form-{len(self.asked)}", scale=-1.0 if wrong else 1.0, steps=steps)
        return Made(spec, built)

    def costly_nodes(self, spec: FormSpec, seconds: float) -> list[str]:
        assert seconds > 0
        self.ordered.append(spec)
        return list(NODES)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final, "FINAL_SECONDS", 0.2)
    monkeypatch.setattr(final, "MOST_SECONDS", 0.0)
    monkeypatch.setattr(contenders, "SCREEN_SECONDS", 0.05)
    state_times(monkeypatch, lambda spec: 2e-5 if spec.quantizer else 2e-4)


def searched(
    tmp_path: Path,
    quantizer: Quantizer,
    *specs: FormSpec,
    otherwise: tuple[FormSpec, ...] = (),
    journal: Journal | None = None,
    **asked: object,
) -> SearchResult:
    given = prepared(tmp_path)
    settings = SearchSettings(tmp_path / "processes", 1, **{"budget_seconds": float("inf"), **asked})  # type: ignore[arg-type]
    plan = Plan([SLOW], specs, otherwise, quantizer)
    return search(plan, quantizer, given, Truth(given.source, given.samples, Thresholds()), settings, journal=journal)


def test_a_fast_form_that_misses_keeps_the_fewest_nodes_with_which_it_holds(tmp_path: Path) -> None:
    quantizer = Quantizer(tmp_path)
    found = searched(tmp_path, quantizer, QUICK)
    missed, *rungs = found.entries
    assert missed.failure is not None
    assert missed.failure.reason is FailureReason.PARITY_FAILED
    assert missed.latency is not None  # it was timed: what is slow anyway is not worth a repair
    assert [len(entry.spec.kept) for entry in rungs] == [1, 2, 4, 3]
    assert [entry.failure is None for entry in rungs] == [False, False, True, True]
    assert found.recommended.spec in {rungs[2].spec, rungs[3].spec}  # as fast as each other here
    assert rungs[3].spec == replace(QUICK, kept=NODES[:3])
    assert rungs[3].spec.name.endswith("a quantizer, 3 nodes in floating point")
    assert quantizer.ordered == [QUICK]


def test_without_time_nothing_is_repaired(tmp_path: Path) -> None:
    quantizer = Quantizer(tmp_path)
    found = searched(tmp_path, quantizer, QUICK, budget_seconds=0.0)
    assert quantizer.ordered == []
    assert found.recommended is found.baseline


def test_what_is_slower_than_the_best_is_not_repaired(tmp_path: Path) -> None:
    quantizer = Quantizer(tmp_path)
    another, slow = replace(QUICK, quantizer="another"), replace(BASELINE, precision="INT8")
    found = searched(tmp_path, quantizer, another, slow, QUICK)  # as fast as the one that holds
    assert quantizer.ordered == []
    assert found.recommended.spec == another


def test_a_form_that_names_no_quantizer_takes_the_best_one(tmp_path: Path) -> None:
    quantizer = Quantizer(tmp_path, needed=2)
    bound = FormSpec("onnxruntime", "INT8", OPEN_QUANTIZER, knobs=(("test", "bound"),))
    found = searched(tmp_path, quantizer, bound, QUICK)
    assert found.entries[-1].spec == replace(bound, quantizer=QUICK.quantizer, kept=NODES[:2])  # after the repair
    direct = searched(tmp_path / "again", Quantizer(tmp_path / "again"), replace(QUICK, quantizer="another"), bound)
    assert direct.entries[-1].spec == replace(bound, quantizer="another")


def test_wider_ranges_are_tried_only_if_nothing_else_holds(tmp_path: Path) -> None:
    another = replace(QUICK, quantizer="another")
    found = searched(tmp_path, Quantizer(tmp_path), QUICK, otherwise=(another,))
    assert found.recommended.spec == another
    enough = searched(tmp_path / "b", Quantizer(tmp_path / "b", needed=0), QUICK, otherwise=(another,))
    assert [entry.spec for entry in enough.entries] == [QUICK]


def test_a_search_that_has_to_choose_takes_what_misses_by_least(tmp_path: Path) -> None:
    found = searched(tmp_path, Quantizer(tmp_path, needed=99), QUICK, must_choose=True)
    assert found.best is not None
    assert found.best.spec.quantizer == QUICK.quantizer
    assert found.best.failure is not None
    assert found.best.latency is not None
    assert found.profile.forms[1].form == found.best.spec.name
    free = searched(tmp_path / "b", Quantizer(tmp_path / "b", needed=99), QUICK)
    assert free.best is None
    assert free.recommended is free.baseline


def test_the_form_that_misses_by_least_is_made_again_after_the_death_of_a_process(tmp_path: Path) -> None:
    path, step = tmp_path / "journal.json", "net: the costs of the nodes of the result"
    first = Quantizer(tmp_path, needed=99)
    searched(tmp_path, first, QUICK, must_choose=True, journal=Journal("net", path))
    assert first.asked.count(QUICK) == 1
    death = Death(EngineFailure(FailureReason.TOOLCHAIN_CRASHED, "Gone."), time.monotonic())
    journal = Journal.open("net", path, lambda _step: None, {step: death})
    second = Quantizer(tmp_path / "again", needed=99)
    found = searched(tmp_path / "again", second, QUICK, must_choose=True, journal=journal)
    assert found.best is not None
    assert found.best.made is not None
    assert found.best.failure is not None
    assert second.asked == [SLOW, found.best.spec]
