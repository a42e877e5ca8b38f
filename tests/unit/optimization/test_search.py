from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.parity.report import Verdict
from engines.runtimes.form import FormSpec
from engines.search import contenders, final, trials
from engines.search.entry import Entry
from engines.search.final import ALONE_ROUNDS
from engines.search.journal import Death, Journal
from engines.search.record import Record
from engines.search.request import Plan, SearchSettings
from engines.search.search import SearchResult, search
from engines.search.truth import Judge, Run, Thresholds, Truth
from engines.search.workbench import Workbench
from engines.timing.process import FormProcess
from tests.children import children
from tests.unit.optimization import mortal
from tests.unit.optimization.forms import BASELINE, OPENVINO, ORT, TestMaker, ones, prepared, state_times

ENOUGH = 3600.0
"""Seconds of which no search here takes more than a few, on whatever machine."""
SLOW_BASELINE = FormSpec("onnxruntime", "FP32", knobs=(("graph", "as it is"), ("test", "more")))


def fault(name: str) -> FormSpec:
    return FormSpec("onnxruntime", "FP32", knobs=(("test", name),))


def seconds_of_a_call(spec: FormSpec) -> float:
    """OpenVINO needs longer to begin than this graph takes."""
    return 2e-4 if spec.knob("test") == "more" else 6e-5 if spec.runtime == "openvino" else 2e-5


Searcher = Callable[..., tuple[SearchResult, TestMaker]]


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searcher:
    monkeypatch.setattr(final, "FINAL_SECONDS", 0.4)
    monkeypatch.setattr(final, "MOST_SECONDS", 0.0)
    monkeypatch.setattr(contenders, "SCREEN_SECONDS", 0.1)
    monkeypatch.setattr(FormProcess, "program", mortal.PROGRAM)
    state_times(monkeypatch, seconds_of_a_call)

    def run(
        specs: list[FormSpec], *baselines: FormSpec, judge: Judge | None = None, **options: Any
    ) -> tuple[SearchResult, TestMaker]:
        given = prepared(tmp_path)
        maker = TestMaker(tmp_path)
        before = children()
        truth = Truth(given.source, given.samples, Thresholds(), judge=judge)
        plan = Plan(baselines or [BASELINE], specs, options.pop("otherwise", ()), options.pop("nodes", None))
        told = {name: options.pop(name) for name in ("earlier", "progress", "journal") if name in options}
        result = search(plan, maker, given, truth, SearchSettings(tmp_path / "runners", 1, **options), **told)
        assert children() <= before  # no process is left
        assert list((tmp_path / "runners").iterdir()) == []
        return result, maker

    return run


def by_spec(result: SearchResult) -> dict[FormSpec, Entry]:
    return {entry.spec: entry for entry in result.entries}


def test_what_fails_is_told_and_ends_nothing_but_itself(searched: Searcher) -> None:
    faults = [fault(name) for name in ("wrong", "refused", "raises", "dies")]
    told: list[float] = []
    result, _ = searched([*faults, OPENVINO], budget_seconds=ENOUGH, progress=lambda part, words: told.append(part))
    entries = by_spec(result)
    reasons = [entry.failure.reason.value if entry.failure else "" for entry in map(entries.__getitem__, faults)]
    assert reasons == ["PARITY_FAILED", "UNSUPPORTED_OPERATOR", "TOOLCHAIN_CRASHED", "TOOLCHAIN_CRASHED"]
    assert all(entries[spec].latency is None for spec in faults)
    assert entries[OPENVINO].holds
    assert entries[OPENVINO].parity is not None
    assert entries[OPENVINO].size_bytes > 0 < entries[OPENVINO].memory_bytes
    assert result.no_gain
    assert result.recommended is result.baseline
    assert result.baseline.made is not None
    assert "within the noise of" in result.no_gain_reason
    assert [latency.form for latency in result.profile.forms] == [BASELINE.name, OPENVINO.name]
    assert told == sorted(told)
    assert len(result.record.measurements) == 5


def test_a_faster_form_is_recommended_and_an_earlier_measurement_is_not_repeated(searched: Searcher) -> None:
    slow_start, knob = SLOW_BASELINE, fault("another")
    result, maker = searched([OPENVINO, ORT, knob], slow_start, budget_seconds=ENOUGH)
    assert not result.no_gain
    assert result.recommended.spec in {ORT, knob}  # the same graph twice
    assert result.recommended.made is not None
    assert result.recommended.latency is not None
    assert result.recommended.latency.speedup_low > result.profile.noise
    assert by_spec(result)[OPENVINO].note.startswith("eliminated after")
    source = result.profile.forms[0].median_ms
    for latency in (*(entry.latency for entry in result.entries), *result.profile.forms):
        assert latency is not None
        assert latency.median_ms == pytest.approx(source / latency.speedup)
        assert latency.median_ms <= latency.p99_ms
    assert [entry.pareto for entry in (result.baseline, by_spec(result)[OPENVINO])] == [False, False]
    assert len(maker.asked) == 4

    text = result.record.to_json()
    earlier = Record.from_json(text)
    again, maker = searched([OPENVINO, ORT, knob], slow_start, budget_seconds=ENOUGH, earlier=earlier)
    assert OPENVINO not in maker.asked
    assert by_spec(again)[OPENVINO].measured_by == hashlib.sha256(text.encode()).hexdigest()
    assert by_spec(again)[OPENVINO].made is None
    assert again.recommended.spec in {ORT, knob}
    assert again.recommended.made is not None
    assert again.recommended.measured_by == ""


def test_no_budget_is_still_an_answer(searched: Searcher) -> None:
    result, maker = searched([OPENVINO, ORT], budget_seconds=0.0)
    assert [entry.note for entry in result.entries] == ["not tried: the budget of 0 s was spent"] * 2
    assert result.recommended is result.baseline
    assert result.no_gain
    assert result.baseline.latency is not None
    assert result.profile.rounds == ALONE_ROUNDS  # nothing is compared with it
    assert result.record.measurements == {}
    assert maker.asked == [BASELINE]


def test_a_slow_maker_does_not_eat_the_budget(searched: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "MOST_OF_THE_REST", 0.1 / ENOUGH)
    monkeypatch.setattr(trials, "LEAST_MAKING_SECONDS", 0.0)
    result, maker = searched([fault("slow"), fault("alike"), OPENVINO], budget_seconds=ENOUGH)
    assert result.entries[0].note.startswith("could not be made within the 0.")
    assert result.entries[0].failure is None
    assert result.entries[1].note.startswith("not tried: a similar form could not be made within 0.")
    assert maker.asked == [BASELINE, fault("slow"), OPENVINO]


def test_throughput_is_that_of_the_largest_batch(searched: Searcher) -> None:
    result, _ = searched([ORT], SLOW_BASELINE, budget_seconds=ENOUGH, objective="THROUGHPUT")
    assert result.profile.batch_size == 4
    assert by_spec(result)[ORT].samples_per_second > result.baseline.samples_per_second > 0


def test_size_goes_by_bytes(searched: Searcher) -> None:
    result, _ = searched([fault("small")], budget_seconds=ENOUGH, objective="SIZE")
    assert result.recommended.spec == fault("small")
    assert not result.no_gain
    assert by_spec(result)[fault("small")].latency is not None


def test_accuracy_decides_where_there_is_a_judge(searched: Searcher) -> None:
    def judge(run: Run) -> float:
        return 0.9 if np.isfinite(run(ones(1))["y"]).all() else 0.0

    result, _ = searched([ORT], budget_seconds=ENOUGH, judge=judge, judged_on="d")
    assert (result.baseline.accuracy, result.entries[0].accuracy) == (0.9, 0.9)


def test_memory_for_one_process_of_the_source_is_enough(searched: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    first_call, asked = Workbench.first_call, []

    def once(bench: Workbench, runner: FormProcess) -> float:
        asked.append(runner.made.spec)
        if asked.count(BASELINE) > 1:
            raise EngineFailure(FailureReason.OUT_OF_MEMORY, "There is no memory for a second process.")
        return first_call(bench, runner)

    monkeypatch.setattr(Workbench, "first_call", once)
    result, _ = searched([OPENVINO], budget_seconds=ENOUGH)
    assert asked.count(BASELINE) == 2
    assert result.profile.control.speedup_low > 0
    assert by_spec(result)[OPENVINO].holds


def test_a_source_that_does_not_run_is_an_error(searched: Searcher) -> None:
    with pytest.raises(EngineFailure) as raised:
        searched([ORT], fault("refused"))
    assert raised.value.reason is FailureReason.UNSUPPORTED_OPERATOR
    with pytest.raises(EngineFailure, match="SIGSEGV"):
        searched([ORT], fault("dies"))


def test_where_the_source_form_does_not_run_the_next_one_does(searched: Searcher) -> None:
    result, maker = searched([], fault("refused"), fault("dies"), BASELINE, budget_seconds=ENOUGH)
    assert result.baseline.spec == BASELINE
    assert maker.asked == [fault("refused"), fault("dies"), BASELINE]


def test_what_computes_something_else_does_not_stand_for_the_source(searched: Searcher) -> None:
    wrong = fault("wrong")
    result, maker = searched([wrong, ORT], wrong, BASELINE, budget_seconds=ENOUGH)
    assert result.baseline.spec == BASELINE
    assert result.recommended.parity is not None
    assert result.recommended.parity.verdict is Verdict.PASS
    first, second = result.entries
    assert (first.spec, second.spec) == (wrong, ORT)
    assert first.failure is not None
    assert first.failure.reason is FailureReason.PARITY_FAILED
    assert maker.asked.count(wrong) == 1


def test_where_nothing_computes_what_the_source_computes_there_is_no_answer(searched: Searcher) -> None:
    with pytest.raises(EngineFailure, match="No form of the model computes what the model itself computes") as caught:
        searched([ORT], fault("refused"), fault("wrong"))
    assert caught.value.reason is FailureReason.PARITY_FAILED
    assert "has no such operator" in caught.value.evidence


def test_a_source_whose_process_is_lost_is_opened_again(searched: Searcher) -> None:
    result, maker = searched([OPENVINO], fault("once"), budget_seconds=ENOUGH)
    assert by_spec(result)[OPENVINO].holds
    assert maker.asked == [fault("once"), OPENVINO]
    assert result.baseline.failure is None
    assert result.baseline.latency is not None


def test_a_candidate_that_the_judge_stumbles_over_fails_alone(searched: Searcher) -> None:
    scores = iter([0.9])

    def judge(run: Run) -> float:
        run(ones(1))
        return next(scores)  # of the source; a candidate's answer raises what it likes

    result, _ = searched([OPENVINO], budget_seconds=ENOUGH, judge=judge)
    failure = by_spec(result)[OPENVINO].failure
    assert failure is not None
    assert "could not be judged on the data" in failure.message
    assert result.no_gain


def test_another_process_goes_on_where_one_died(searched: Searcher, tmp_path: Path) -> None:
    path, risks = tmp_path / "journal.json", list[str]()
    slow_start, deadly, late = SLOW_BASELINE, fault("deadly"), fault("late")
    specs = [fault("wrong"), ORT, OPENVINO]
    first = Journal("net", path, risks.append)
    searched(specs, slow_start, budget_seconds=ENOUGH, journal=first)
    assert risks == [words for spec in specs for words in (f"net: {spec.name}", "")]

    death = EngineFailure(FailureReason.OUT_OF_MEMORY, "It took 3 GiB.")
    deaths = {f"net: {deadly.name}": Death(death, time.monotonic())}
    second = Journal.open("net", path, risks.append, deaths)
    result, maker = searched([*specs, deadly, late], slow_start, budget_seconds=ENOUGH, journal=second)
    entries = by_spec(result)
    assert maker.asked == [slow_start, ORT, late]  # the leader, which the answer rests on, and what was not tried
    assert entries[fault("wrong")].failure is not None
    assert entries[OPENVINO].measured_by == ""
    assert entries[OPENVINO].latency is not None
    failure = entries[deadly].failure
    assert failure is not None
    assert failure.reason is FailureReason.OUT_OF_MEMORY
    assert failure.message.endswith("It took 3 GiB.")
    assert result.recommended.spec in {ORT, late}


def test_a_leader_is_made_again_however_little_time_is_left(searched: Searcher, tmp_path: Path) -> None:
    path, gone = tmp_path / "journal.json", EngineFailure(FailureReason.TOOLCHAIN_CRASHED, "Gone.")
    searched([ORT], SLOW_BASELINE, budget_seconds=ENOUGH, journal=Journal("net", path))
    result, maker = searched(
        [ORT, OPENVINO],
        SLOW_BASELINE,
        budget_seconds=1e-3,
        journal=Journal.open("net", path, lambda _step: None, {"net: other": Death(gone, time.monotonic())}),
    )
    assert maker.asked == [SLOW_BASELINE, ORT]
    assert [latency.form for latency in result.profile.forms] == [SLOW_BASELINE.name, ORT.name]  # in the final
    assert by_spec(result)[OPENVINO].note.startswith("not tried")
