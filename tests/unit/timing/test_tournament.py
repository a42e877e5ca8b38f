from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.runtimes.form import FormSpec, Made
from engines.tensors.samples import Samples, SampleSource
from engines.tensors.signature import TensorSpec
from engines.timing.process import FormProcess
from engines.timing.tournament import (
    MOST_CALLS,
    TURN_SECONDS,
    Contender,
    Tournament,
    calls_of_turn,
    timed_feed,
)
from tests.unit.optimization.forms import ORT, form, ones

SLOWER = FormSpec("onnxruntime", "FP32", knobs=(("test", "more"),))


def contender(folder: Path, spec: FormSpec, layers: int) -> Contender:
    opened = FormProcess.open(Made(spec, form(folder, layers=layers)), 1, folder)
    opened.run([ones(4)])
    return Contender(spec.name, opened, min(opened.turn(0, 3)))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Contender]]:
    folder = tmp_path_factory.mktemp("pair")
    found = [contender(folder / "a", ORT, 2), contender(folder / "b", SLOWER, 60)]
    yield found
    for one in found:
        one.process.close()


@pytest.fixture
def pair(opened: list[Contender]) -> list[Contender]:
    """A form and a slower one, whose turns are forgotten between tests."""
    for one in opened:
        one.forget()
    return list(opened)


def test_forms_are_compared_by_turns_of_the_same_rounds(pair: list[Contender]) -> None:
    fast, slow = pair
    tournament = Tournament(0, 4)
    assert tournament.speed(fast, slow).rounds == 0
    assert tournament.latency(fast, slow) is None
    tournament.rounds([fast], 0.0, least=3)
    assert tournament.rounds(pair, 0.0, least=6) == pair
    ahead = tournament.speed(fast, slow)
    assert ahead.rounds == 6
    assert 1 < ahead.low <= ahead.ratio <= ahead.high
    assert tournament.speed(slow, fast).ratio == pytest.approx(1 / ahead.ratio, rel=0.5)
    latency = tournament.latency(fast, slow)
    assert latency is not None
    assert latency.form == ORT.name
    assert latency.speedup == pytest.approx(ahead.ratio)
    assert tournament.latency(slow, slow).speedup == 1.0  # type: ignore[union-attr]


def test_time_bounds_rounds(pair: list[Contender]) -> None:
    tournament = Tournament(0, 4)
    tournament.rounds(pair, 100.0, most=7)
    assert len(pair[0].turns) == 7
    pair[0].forget()
    assert (pair[0].turns, pair[0].calls) == ({}, [])


def test_full_load_counts_samples(pair: list[Contender]) -> None:
    tournament = Tournament(0, 4, load=True)
    tournament.rounds(pair, 0.0, least=5)
    assert tournament.speed(*pair).ratio > 1
    assert len(pair[0].calls) == 5


def test_one_that_dies_leaves_and_the_others_go_on(pair: list[Contender]) -> None:
    stays, dies = pair  # which dies for good: this test is the last that takes them
    tournament = Tournament(0, 4)
    tournament.rounds(pair, 0.0, least=2)
    dies.process.close()
    assert tournament.rounds(pair, 0.0, least=2) == [stays]
    assert dies.failure is not None
    assert len(stays.turns) == 4


@given(st.floats(1e-7, 100.0))
def test_turns_are_long_enough_to_tell_of_the_form(seconds: float) -> None:
    calls = calls_of_turn(seconds)
    assert 3 <= calls <= MOST_CALLS
    assert calls == MOST_CALLS or calls * seconds >= TURN_SECONDS * 0.999


def feeds(*shapes: tuple[int, ...]) -> Samples:
    arrays = tuple({"x": np.zeros(shape, np.float32)} for shape in shapes)
    return Samples(arrays, SampleSource.GENERATED, 0, tuple(sorted({shape[0] for shape in shapes})), len(shapes))


def test_the_feed_that_is_timed_is_the_one_that_the_model_is_for() -> None:
    spec = TensorSpec("x", "float32", min=(1, 4), opt=(1, 128), max=(8, 512))
    given = feeds((1, 4), (1, 128), (2, 128), (8, 128), (8, 512))
    assert timed_feed(given, [spec], largest_batch=False) == 1
    assert timed_feed(given, [spec], largest_batch=True) == 3
    fixed = TensorSpec.fixed("x", "float32", (16, 128))
    assert timed_feed(feeds((16, 128), (16, 128)), [fixed], largest_batch=True) == 0
