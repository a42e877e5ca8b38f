from __future__ import annotations

from typing import cast

import pytest

from engines.runtimes.form import FormSpec, Made
from engines.search.contenders import SCREEN_ROUNDS, Contenders
from engines.search.entry import Entry, FormContender
from engines.search.final import Final
from engines.search.workbench import Workbench
from engines.timing.process import FormProcess
from engines.timing.tournament import Tournament
from tests.unit.optimization.forms import BASELINE, OPENVINO, ORT

KNOB = FormSpec("onnxruntime", "FP32", knobs=(("spinning", "off"),))


def timed(spec: FormSpec, milliseconds: float, size: int = 100) -> FormContender:
    """Return a form that took part in ten rounds, as if it had been measured."""
    turns = {number: milliseconds * (1 + 0.001 * (number % 3)) / 1000 for number in range(10)}
    closed = FormProcess.__new__(FormProcess)
    closed._closed, closed.memory_bytes = True, 0
    found = FormContender.of(Entry(spec, size_bytes=size), closed, 0.0)
    found.turns, found.calls = turns, list(turns.values())
    return found


def disturbed(form: FormContender, rounds: set[int]) -> FormContender:
    """Return a form that took ten times as long in some rounds, because the machine did something else."""
    form.turns = {number: seconds * (10 if number in rounds else 1) for number, seconds in form.turns.items()}
    return form


def never(_made: Made) -> FormProcess:
    raise AssertionError("the source was not lost")


def final(*members: FormContender, source: float = 10.0, by_size: bool = False) -> tuple[Final, Contenders]:
    contenders = Contenders(Tournament(0, 1), timed(BASELINE, source), by_size, 1 << 40, never, list(members))
    return Final(contenders, cast(Workbench, None)), contenders


def test_of_equals_the_simpler_wins_and_of_others_the_faster() -> None:
    simple, knob = timed(ORT, 5.0), timed(KNOB, 4.95)
    assert final(knob, simple)[0]._choice() is simple
    faster = timed(KNOB, 4.8)
    assert final(faster, simple)[0]._choice() is faster


def test_the_best_default_is_always_in_the_final_and_who_is_not_says_so() -> None:
    knobs = [
        timed(FormSpec("openvino", "FP32", knobs=(("streams", str(count)),)), 4.0 + count / 100) for count in (1, 2, 3)
    ]
    default = timed(OPENVINO, 4.5)
    _, contenders = final(*knobs, default)
    assert contenders.members == [*knobs[:2], default]
    assert knobs[2].entry.note == "eliminated after 10 rounds: 1.00x of the best"


def test_the_leader_of_the_trials_takes_part_though_it_fell_behind() -> None:
    forms = [timed(FormSpec("openvino", "FP32", knobs=(("streams", str(count)),)), 4.0 + count) for count in (1, 2, 3)]
    contenders = Contenders(
        Tournament(0, 1), timed(BASELINE, 10.0), by_size=False, memory_bytes=1 << 40, reopen=never, members=[*forms]
    )
    contenders.leader = forms[2]
    contenders._keep(1)
    assert contenders.members == [forms[0], forms[2]]
    Final(contenders, cast(Workbench, None))
    assert contenders.members == [forms[0], forms[2]]


def test_a_gain_has_to_hold_against_both_processes_of_the_source() -> None:
    held, _ = final(timed(ORT, 8.0))
    assert held._judge(held._choice(), timed(BASELINE, 10.0)) == (True, "")
    gain, reason = held._judge(held._choice(), timed(BASELINE, 8.1))
    assert not gain
    assert "within the noise of" in reason
    assert held._judge(None, timed(BASELINE, 10.0))[1].startswith("No other form")


def test_disturbed_rounds_of_the_source_hide_no_gain() -> None:
    control, source = (disturbed(timed(BASELINE, 10.0), rounds) for rounds in ({1, 4, 7}, {2, 5, 8}))
    held, contenders = final(timed(ORT, 4.0))
    contenders.baseline = source
    assert contenders.tournament.speed(control, source).high > 2.5
    assert held._judge(held._choice(), control) == (True, "")


def test_who_left_is_shown_by_what_it_was_beside_the_best() -> None:
    best, slow = timed(ORT, 5.0), timed(OPENVINO, 10.0)
    slow.entry.spec = KNOB
    _, contenders = final(best)
    contenders.members.append(slow)
    contenders._leave(slow)
    best.turns = {number: seconds / 2 for number, seconds in best.turns.items()}  # the final finds it twice as fast
    contenders.settle()
    assert best.entry.latency is not None
    assert slow.entry.latency is not None
    assert round(best.entry.latency.speedup, 2) == 4.0
    assert round(slow.entry.latency.speedup, 2) == 2.0


def test_size_compares_bytes() -> None:
    small, fast = timed(KNOB, 20.0, size=50), timed(ORT, 1.0, size=100)
    held, contenders = final(small, fast, by_size=True)
    assert contenders.ranked == [small, fast]
    assert held._choice() is small
    assert held._judge(small, timed(BASELINE, 10.0)) == (True, "")
    gain, reason = held._judge(timed(KNOB, 1.0, size=99), timed(BASELINE, 10.0))
    assert not gain  # one byte in a hundred helps nobody
    assert reason == f"The smallest form, {KNOB.name}, has 0.99x the size of the source form."


def test_of_equally_small_forms_the_fastest_wins() -> None:
    slow, fast = timed(ORT, 20.0, size=50), timed(OPENVINO, 5.0, size=50)
    assert ORT.name < OPENVINO.name  # which decides among equals
    assert final(slow, fast, by_size=True)[0]._choice() is fast


def test_forms_that_never_met_are_compared_by_way_of_the_source() -> None:
    best, slow = timed(ORT, 5.0), timed(KNOB, 10.0)
    source = timed(BASELINE, 10.0)
    slow.turns = {number + 100: seconds for number, seconds in slow.turns.items()}
    source.turns |= {number + 100: seconds for number, seconds in source.turns.items()}
    contenders = Contenders(
        Tournament(0, 1), source, by_size=False, memory_bytes=1 << 40, reopen=never, members=[best, slow]
    )
    contenders._leave(slow)
    assert slow.entry.note == "eliminated after 10 rounds: 0.50x of the best"


def test_long_rounds_are_few_at_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    least: list[int] = []

    def rounds(
        _self: Tournament, contenders: list[FormContender], _seconds: float, **bounds: int
    ) -> list[FormContender]:
        least.append(bounds["least"])
        return list(contenders)

    monkeypatch.setattr(Tournament, "rounds", rounds)
    for call_seconds in (0.01, 0.6):
        source, new = timed(BASELINE, 10.0), timed(ORT, 5.0)
        source.call_seconds = new.call_seconds = call_seconds
        Contenders(Tournament(0, 1), source, by_size=False, memory_bytes=1 << 40, reopen=never).enter(
            new, lambda _form: True
        )
    assert least == [SCREEN_ROUNDS, 2]
