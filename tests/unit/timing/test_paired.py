"""Paired profiles: what is in them, and what they conclude. No test asserts a time."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.timing import paired as module
from engines.timing.paired import Latency, ProfileReport, median_interval, profile


class Clock:
    """Time that passes only when a form says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def form(self, *seconds: float) -> module.Call:
        turns = count()

        def call() -> None:
            self.now += seconds[next(turns) % len(seconds)]

        return call


def test_speedups_are_paired_and_the_control_is_the_baseline_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    forms = {"torchscript": clock.form(0.004), "openvino": clock.form(0.001)}
    report = profile(forms, threads=2, batch_size=1, hardware="cpu", budget_seconds=1.0)
    baseline, built = report.forms
    assert (baseline.form, baseline.speedup) == ("torchscript", 1.0)
    assert built.median_ms == pytest.approx(1.0)
    assert built.speedup == pytest.approx(4.0)
    assert report.control.speedup == pytest.approx(1.0)
    assert 5 <= report.rounds <= 200
    assert report.to_dict()["conclusions"] == {"openvino": "4.00x faster than torchscript"}


def test_a_slow_form_is_still_measured_in_the_fewest_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    report = profile({"a": clock.form(10.0)}, threads=1, batch_size=1, hardware="", budget_seconds=1.0)
    assert report.rounds == module.LEAST_ROUNDS


def test_order_within_rounds_varies() -> None:
    seen: list[str] = []
    forms = {name: lambda name=name: seen.append(name) for name in "ab"}
    profile(forms, threads=1, batch_size=1, hardware="", budget_seconds=0.0)
    assert seen.count("a") == 2 * seen.count("b")
    rest = "".join(seen)
    assert "aaaaaaaabbbb" in rest
    assert "bbbb" in rest.removesuffix("bbbb")


def latency(form: str, speedup: float, low: float, high: float) -> Latency:
    return Latency(form, 1, 1, 1, speedup, low, high)


@pytest.mark.parametrize(
    ("measured", "words"),
    [((1.05, 1.02, 1.08), "no win"), ((1.3, 1.2, 1.4), "1.30x faster"), ((0.5, 0.4, 0.6), "2.00x slower")],
)
def test_a_win_within_the_noise_is_no_win(measured: tuple[float, float, float], words: str) -> None:
    control = latency("a", 1.0, 0.9, 1.1)
    built = latency("b", *measured)
    assert words in ProfileReport((latency("a", 1, 1, 1), built), control, 5, 1, 1, "").conclusion(built)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40), st.integers(0, 3))
def test_the_interval_holds_the_median_and_repeats(values: list[float], seed: int) -> None:
    low, high = median_interval(np.asarray(values), seed)
    assert min(values) <= low <= high <= max(values)
    assert (low, high) == median_interval(np.asarray(values), seed)


def test_the_report_is_the_json_of_its_proto_message() -> None:
    from lathe.type.v1.measurement_pb2 import ProfileReport as Message

    from services.platform.words import from_values

    report = profile({"a": lambda: None}, threads=1, batch_size=4, hardware="cpu", budget_seconds=0.0)
    message = from_values(report.to_dict(), Message())
    assert (message.rounds, message.batch_size, message.forms[0].form) == (report.rounds, 4, "a")
