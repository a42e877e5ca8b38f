"""The arithmetic that the optimizer's benchmark draws conclusions by."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.bench.optimizer import table
from tests.bench.optimizer.contest import CONTROL, Standing
from tests.bench.optimizer.figures import OURS, Outcome, geomean, summary
from tests.bench.optimizer.ours import Search
from tests.bench.optimizer.peers import BASELINE

ROUNDS = 9


def standing(name: str, precision: str, milliseconds: float, **values: Any) -> Standing:
    given = {"cosine": 1.0, "max_rel": 0.0, "form": f"onnxruntime {precision}", **values}
    return Standing(name, precision, given.pop("form"), turns=[milliseconds / 1000] * ROUNDS, **given)


def outcome(*standings: Standing, model: str = "net", counted: bool = True, **searches: Search) -> Outcome:
    by_name = {each.name: each for each in (standing(BASELINE, "FP32", 8.0), *standings)}
    return Outcome(model, model, counted, 1e-3, by_name, searches)


def candidate(milliseconds: float, cosine: float, **values: Any) -> dict[str, Any]:
    measured = {"latency": {"median_ms": milliseconds}, "parity": {"outputs": [{"cosine": cosine}]}}
    return {"form": "openvino INT8", "precision": "INT8", **measured, **values}


def test_the_geometric_mean_leaves_out_what_is_no_number() -> None:
    assert geomean([1.0, 4.0, math.nan]) == pytest.approx(2.0)
    assert math.isnan(geomean([]))


def test_a_choice_stands_beside_the_fastest_default_that_its_goal_allows_and_that_computes_the_right_thing() -> None:
    found = outcome(
        standing("ONNX Runtime", "FP32", 4.0),
        standing("OpenVINO f32", "FP32", 1.0, max_rel=0.5),
        standing("OpenVINO", "BF16", 2.0, max_rel=0.05),
        standing("TorchScript bf16", "BF16", 0.5, cosine=0.998, max_rel=0.56),
        standing("Olive int8", "INT8", 0.5, cosine=0.39),
        standing(OURS + "FP32", "FP32", 2.0),
        standing(OURS + "INT8", "INT8", 1.0, cosine=0.992),
    )
    lossless, eight = found.versus("FP32"), found.versus("INT8")
    assert lossless is not None
    assert lossless.default.name == "ONNX Runtime"
    assert lossless.ratio == pytest.approx(2.0)
    assert eight is not None
    assert eight.default.name == "OpenVINO"
    assert eight.ratio == pytest.approx(2.0)
    assert found.versus("BF16") is None, "Lathe chose nothing for it"


def test_a_choice_that_computes_the_wrong_thing_is_no_choice() -> None:
    found = outcome(standing(OURS + "INT8", "INT8", 1.0, cosine=0.98))
    assert found.chosen("INT8") is None
    assert math.isnan(found.over_baseline("INT8"))


@pytest.mark.parametrize(("milliseconds", "verdict"), [(3.0, "wins"), (4.1, "ties"), (6.0, "loses")])
def test_a_win_or_loss_has_to_leave_the_noise_of_the_control(milliseconds: float, verdict: str) -> None:
    ours = OURS + "FP32"
    found = outcome(
        standing("ONNX Runtime", "FP32", 4.0),
        standing(ours, "FP32", milliseconds),
        standing(ours + CONTROL, "FP32", milliseconds * 1.1),
    )
    versus = found.versus("FP32")
    assert versus is not None
    assert versus.verdict == verdict


def test_controls_are_no_defaults() -> None:
    found = outcome(standing(BASELINE + CONTROL, "FP32", 1.0))
    assert [each.name for each in found.defaults("INT8")] == [BASELINE]


def test_the_means_are_over_the_models_that_count() -> None:
    def one(model: str, ours: float, *, counted: bool = True, cosine: float = 0.995) -> Outcome:
        eight = Search("INT8", candidates=[candidate(1.0, cosine), candidate(0.5, 0.9)])
        forms = (standing("ONNX Runtime", "FP32", 4.0), standing(OURS + "FP32", "FP32", ours))
        return outcome(*forms, model=model, counted=counted, INT8=eight)

    found = summary([one("a", 1.0), one("b", 4.0, cosine=0.98), one("c", 0.001, counted=False)])
    assert found["FP32"] == {
        "models": 2,
        "of": 2,
        "versus": pytest.approx(2.0),
        "worst": pytest.approx(1.0),
        "speedup": pytest.approx(4.0),
        "default_speedup": pytest.approx(2.0),
    }
    assert found["BF16"]["models"] == 0
    assert found["INT8"]["int8"] == 1


def test_an_int8_form_counts_by_its_own_cosine_and_only_where_nothing_speaks_against_it() -> None:
    failed = candidate(0.1, 1.0, failure={"message": "too much accuracy lost"})
    assert Search("INT8", candidates=[failed, candidate(2.0, 0.999), candidate(1.0, 0.991)]).best_int8_cosine == 0.991
    assert math.isnan(Search("INT8", candidates=[failed]).best_int8_cosine)


def test_figures_survive_their_file_and_make_tables() -> None:
    ours = OURS + "FP32"
    search = Search("FP32", form="onnxruntime FP32", candidates=[candidate(4.0, 1.0, note="eliminated")], seconds=3.0)
    forms = (standing("ONNX Runtime", "FP32", 4.0), standing(ours, "FP32", 4.0), standing(ours + CONTROL, "FP32", 4.0))
    failed = Standing("Olive int8", "INT8", "", failure="it wrote no model")
    before = outcome(*forms, failed, FP32=search)
    after = Outcome.from_dict(json.loads(json.dumps(before.to_dict())))
    text = table.model_table(after)
    assert text == table.model_table(before)
    assert "it wrote no model" in text
    assert "ties" in text
    assert "1.00×" in table.all_models([after])
    assert "int8 forms with cosine ≥ 0.99: 0 of 1" in table.means([after])
