from __future__ import annotations

from typing import Any

import pytest
from lathe.converter.v1.conversion_service_pb2 import ConversionTask
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationComparison, EvaluationTask
from lathe.optimizer.v1.optimization_service_pb2 import OptimizationTask
from lathe.quantizer.v1.quantization_service_pb2 import QuantizationTask
from lathe.type.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_SUCCEEDED

from services.cli.exit_codes import ExitCode
from services.cli.results import show_comparison, show_result
from services.cli.watching import exit_code_of
from services.platform.words import from_values

Printed = pytest.CaptureFixture[str]

OUTPUT = {"output": "logits", "max_rel_error": 0.014, "cosine": 0.99995, "sqnr_db": 39.2, "top1_agreement": 1.0}
PROFILE = {
    "forms": [
        {"form": "eager", "median_ms": 2.0, "p99_ms": 3.0, "speedup": 1.0, "speedup_low": 1.0, "speedup_high": 1.0},
        {"form": "[int8]", "median_ms": 1.0, "p99_ms": 1.5, "speedup": 2.0, "speedup_low": 1.9, "speedup_high": 2.1},
    ],
    "control": {"speedup": 1.01, "speedup_low": 0.98, "speedup_high": 1.03},
    "rounds": 100,
    "threads": 2,
    "batch_size": 4,
    "hardware": "a processor",
    "conclusions": {"[int8]": "faster: 2.00x"},
}


def cells(printed: str, first: str) -> list[str]:
    """Return the cells of the row that begins with a text."""
    rows = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in printed.splitlines()]
    return next(row for row in rows if row[0] == first)


def converted(waiver: str = "", **origin: str) -> ConversionTask:
    parity = {"verdict": "PASS", "threshold": 1e-5, "outputs": [{**OUTPUT, "max_rel_error": 2e-6, "verdict": "PASS"}]}
    unjudged = {
        "verdict": "WARN",
        "threshold": 1e-5,
        "waiver": waiver,
        "outputs": [{"output": "ids", "verdict": "WARN"}],
    }
    values = {
        "name": "conversionTasks/c1",
        "origin": origin,
        "result": {
            "model_version": "models/digits/versions/2",
            "components": [
                {"component": "net", "parity": parity, "profile": PROFILE},
                {"component": "head", "parity": unjudged},
            ],
        },
    }
    return from_values(values, ConversionTask())


def test_a_conversion_shows_parity_and_latency_of_every_component(capsys: Printed) -> None:
    show_result(converted())
    printed = capsys.readouterr()
    assert cells(printed.out, "net: logits")[1:3] == ["2.0e-06", "max rel ≤ 1e-05"]
    assert cells(printed.out, "net: logits")[-2:] == ["100.0%", "PASS"]
    assert cells(printed.out, "head: ids")[-2:] == ["–", "WARN"]
    assert cells(printed.out, "net: [int8]") == ["net: [int8]", "1.000", "1.500", "2.00×", "1.90–2.10"]
    assert "net: batch 4, 2 threads, 100 rounds on a processor" in printed.err
    assert "the baseline against itself: 1.01× (0.98–1.03)" in printed.err
    assert "net: [int8] is faster: 2.00x" in printed.err
    assert "conversionTasks/c1 made digits/2" in printed.err
    assert "The result is from the cache" not in printed.err
    assert "head: the parity verdict is WARN; to promote it, accept the verdict" in printed.err


def test_a_verdict_that_was_not_accepted_has_an_exit_code() -> None:
    ended: list[Any] = [converted(), converted(waiver="ticket 1"), quantized(), quantized(parity={"verdict": "WARN"})]
    codes = [ExitCode.PARITY_WARN, ExitCode.OK, ExitCode.OK, ExitCode.PARITY_WARN]
    forms = [{"form": "a", "recommended": True, "parity": {"verdict": "WARN"}}, {"form": "b"}]
    ended.append(from_values({"name": "optimizationTasks/o", "result": {"candidates": forms}}, OptimizationTask()))
    ended.append(evaluated())
    for task, code in zip(ended, [*codes, ExitCode.PARITY_WARN, ExitCode.OK], strict=True):
        task.status.state = TASK_STATE_SUCCEEDED
        assert exit_code_of(task) is code
    ended[0].status.state = TASK_STATE_FAILED
    assert exit_code_of(ended[0]) is ExitCode.TASK_FAILED


def test_what_ran_nowhere_cannot_be_taken_for_a_pass(capsys: Printed) -> None:
    parity = {"verdict": "UNVERIFIED", "missing": "a run on a T4"}
    values = {"name": "conversionTasks/c", "result": {"components": [{"component": "net", "parity": parity}]}}
    task = from_values(values, ConversionTask())
    task.status.state = TASK_STATE_SUCCEEDED
    show_result(task)
    printed = capsys.readouterr()
    assert "net: UNVERIFIED: nobody has seen this form compute. Missing: a run on a T4." in printed.err
    assert "PASS" not in printed.out + printed.err
    assert exit_code_of(task) is ExitCode.UNVERIFIED


def test_a_result_of_the_action_cache_names_the_original_task(capsys: Printed) -> None:
    show_result(converted(cache_hit="conversionTasks/c0"))
    assert "The result is from the cache: conversionTasks/c0 did the same work." in capsys.readouterr().err
    show_result(converted(cache_hit="conversionTasks/-"))
    assert "The result is from the cache: a task of another project did the same work." in capsys.readouterr().err


def quantized(**more: Any) -> QuantizationTask:
    candidates = [
        {"quantizer": "onnxruntime ENTROPY_2", "cosine": 0.99995, "sqnr_db": 39.2, "accuracy": 0.975, "median_ms": 0.21}
        | {"size_bytes": 96768, "chosen": True},
        {"quantizer": "nncf [IR]", "reason": "it needs 300 samples"},
    ]
    result = {
        "model_version": "models/digits/versions/4",
        "source_size_bytes": 375910,
        "size_bytes": 96768,
        "candidates": candidates,
        "parity": {
            "verdict": "PASS",
            "measure": "COSINE",
            "threshold": 1e-3,
            "outputs": [{**OUTPUT, "verdict": "PASS"}],
        },
        "profile": PROFILE,
        "coverage": {"products": 4, "quantized_products": 3, "weights": 100, "quantized_weights": 80},
    }
    values = {"name": "quantizationTasks/q1", "result": {**result, **more}}
    return from_values(values, QuantizationTask())


def test_a_quantization_shows_its_candidates_and_their_accuracy(capsys: Printed) -> None:
    show_result(quantized())
    printed = capsys.readouterr()
    chosen = ["onnxruntime ENTROPY_2", "0.99995", "39.2", "0.9750", "0.210", "94.5 KiB", "chosen"]
    assert cells(printed.out, chosen[0]) == chosen
    assert cells(printed.out, "nncf [IR]") == ["nncf [IR]", "–", "–", "–", "–", "–", "it needs 300 samples"]
    assert "weights: 367.1 KiB → 94.5 KiB" in printed.err
    assert "in integers: 3 of 4 products, 80% of their weights" in printed.err
    assert "quantizationTasks/q1 made digits/4" in printed.err
    for table in ("Accuracy control", "Most sensitive nodes"):
        assert table not in printed.out
    for words in ("bound", "warning", "No win"):
        assert words not in printed.err


def test_the_parity_of_a_quantization_is_held_to_its_cosine(capsys: Printed) -> None:
    show_result(quantized())
    row = cells(capsys.readouterr().out, "logits")
    assert row == ["logits", "1.4e-02", "cosine ≥ 0.999", "0.999950", "39.2", "100.0%", "PASS"]


@pytest.mark.parametrize(("held", "said"), [(True, "the accuracy bound is met"), (False, "the accuracy bound is NOT")])
def test_accuracy_control_shows_its_ladder_and_whether_the_bound_is_met(capsys: Printed, held: bool, said: str) -> None:
    ladder = [{"accuracy": 0.95, "median_ms": 1.25}, {"floating_point_nodes": ["a", "b"], "accuracy": 0.97}]
    more = {"ladder": ladder, "source_accuracy": 0.98, "accuracy": 0.97, "metric": "top1", "bound_held": held}
    show_result(quantized(**more))
    printed = capsys.readouterr()
    assert cells(printed.out, "0") == ["0", "0.9500", "1.250"]
    assert cells(printed.out, "2") == ["2", "0.9700", "–"]
    assert "top1: 0.9800 → 0.9700" in printed.err
    assert said in printed.err


def test_a_quantization_names_its_ten_most_sensitive_nodes_why_it_won_nothing_and_its_warnings(capsys: Printed) -> None:
    nodes = [{"node": f"node_{place}", "operator": "Conv", "sqnr_db": 20.0 + place} for place in range(12)]
    reason = "No win: 1.01x lies within the noise of 1.03x. Likely cause: none that its run shows."
    show_result(quantized(sensitivities=nodes, no_gain_reason=reason, warnings=["Three images were left out."]))
    printed = capsys.readouterr()
    assert cells(printed.out, "node_0") == ["node_0", "Conv", "20.0"]
    assert "node_9" in printed.out
    assert "node_10" not in printed.out
    assert f"\n{reason}\n" in printed.err
    assert "warning: Three images were left out." in printed.err


def metric(name: str, value: float, part: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "low": value - 0.01, "high": value + 0.01, "slice": part}


def evaluated(**result: Any) -> EvaluationTask:
    times = {"total_ms": 3.0, "preprocess_ms": 0.5, "inference_ms": 2.25, "postprocess_ms": 0.25, "throughput": 333.4}
    latency = {"median_ms": 2.2, "p90_ms": 2.5, "p99_ms": 4.0}
    base = {
        "samples": 360,
        "times": {**times, "latency": latency, "peak_memory_bytes": 3 << 20},
        "hardware": "a processor",
        "main_metric": "top1",
    }
    return from_values({"name": "evaluationTasks/e1", "result": {**base, **result}}, EvaluationTask())


def test_an_evaluation_shows_its_figures_the_main_one_by_slice_and_its_times(capsys: Printed) -> None:
    metrics = [
        metric("top1", 0.97),
        metric("macro_f1", 0.96),
        metric("precision/7", 0.5),
        metric("top1", 0.91, "scene=[night]"),
        metric("macro_f1", 0.85, "scene=[night]"),
    ]
    show_result(evaluated(metrics=metrics, warnings=["The class 9 has no sample."]))
    printed = capsys.readouterr()
    assert "360 samples" in printed.out
    assert cells(printed.out, "top1") == ["top1", "", "0.9700", "0.9600–0.9800"]
    assert cells(printed.out, "macro_f1") == ["macro_f1", "", "0.9600", "0.9500–0.9700"]
    assert "scene=[night]" in printed.out
    assert "0.8500" not in printed.out
    assert "precision/7" not in printed.out
    assert "per sample: 3.000 ms = 0.500 before + 2.250 model + 0.250 after" in printed.err
    assert "latency p50 2.200, p99 4.000 ms; 333 samples/s; 3.0 MiB on a processor" in printed.err
    assert "warning: The class 9 has no sample." in printed.err
    assert "made" not in printed.err


def test_an_evaluation_of_several_tasks_shows_each_of_them(capsys: Printed) -> None:
    show_result(
        evaluated(metrics=[metric("top1", 0.9), metric("top1/animal", 0.8), metric("precision/animal:cat", 0.5)])
    )
    shown = capsys.readouterr().out
    assert cells(shown, "top1/animal")[2] == "0.8000"
    assert "cat" not in shown


def test_an_evaluation_of_data_without_annotations_says_so(capsys: Printed) -> None:
    show_result(evaluated(main_metric=""))
    assert "Nothing could be evaluated, because the data has no annotations." in capsys.readouterr().err


def compared(deltas: list[dict[str, Any]], **more: Any) -> EvaluationComparison:
    whole = [{"task": "evaluationTasks/e2", "delta": each} for each in deltas]
    values = {"name": "evaluationComparisons/x", "deltas": whole, "samples": 360, "agreement": 0.9861, **more}
    return from_values(values, EvaluationComparison())


def test_a_comparison_shows_significant_differences_first(capsys: Printed) -> None:
    noise = {"name": "top5", "value": 0.001, "low": -0.001, "high": 0.003}
    worse = {"name": "top1", "slice": "scene=night", "value": -0.02, "low": -0.03, "high": -0.01}
    show_comparison(compared([noise, noise, worse]), 2)
    printed = capsys.readouterr()
    assert printed.out.index("scene=night") < printed.out.index("top5")
    assert cells(printed.out, "e2") == ["e2", "top1", "scene=night", "-0.0200", "-0.0300…-0.0100"]
    assert "1 more differences are in the report." in printed.err
    assert "360 samples, 98.61% agreement; evaluationComparisons/x" in printed.err
    assert "got worse" not in printed.out


def test_a_comparison_shows_the_samples_that_got_worse_most(capsys: Printed) -> None:
    samples = [
        {"sample": f"[{place}].png", "task": "evaluationTasks/e2", "loss": 1 - place / 100} for place in range(12)
    ]
    show_comparison(compared([], regressions=samples), 30)
    printed = capsys.readouterr()
    assert "The evaluations have no common figures." in printed.err
    rows = [line for line in printed.out.splitlines() if ".png" in line]
    assert len(rows) == 10
    assert cells(printed.out, "e2") == ["e2", "[0].png", "1.0000"]
