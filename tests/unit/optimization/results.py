"""Results of optimizations, as a worker hands them over, for pages and reports."""

from typing import Any

from engines.spec.tolerances import TOLERANCES

HARDWARE = "AMD EPYC 9004 (avx2 fma avx512f avx512_vnni avx512_bf16)"


def latency(form: str, median_ms: float, speedup: float, spread: float = 0.03) -> dict[str, Any]:
    """Return a `LatencyMeasurement`."""
    return {
        "form": form,
        "median_ms": median_ms,
        "p90_ms": median_ms * 1.08,
        "p99_ms": median_ms * 1.3,
        "speedup": speedup,
        "speedup_low": speedup * (1 - spread),
        "speedup_high": speedup * (1 + spread),
    }


def parity(cosine: float, error: float, verdict: str = "PASS", precision: str = "FP32") -> dict[str, Any]:
    """Return a `ParityReport` of one output."""
    asked = TOLERANCES[precision]
    output = {"output": "logits", "max_abs_error": error * 9, "max_rel_error": error, "cosine": cosine}
    return {
        "verdict": verdict,
        "measure": asked.measure.value,
        "threshold": asked.threshold,
        "limit": asked.limit,
        "waiver": "accuracy is judged instead" if verdict == "WARN" else "",
        "outputs": [{**output, "sqnr_db": 41.0, "verdict": verdict, "top1_agreement": 1.0}],
        "samples": 19,
        "sample_source": "GENERATED",
        "seed": "0",
        "batch_sizes": [1, 2, 16],
        "first_diverging_error": 0.0,
    }


def candidate(form: str, median_ms: float, speedup: float, **more: Any) -> dict[str, Any]:
    """Return a `Candidate` that was measured."""
    runtime, precision = form.split(",", maxsplit=1)[0].split(" ")[:2]
    return {
        "form": form,
        "runtime": runtime,
        "precision": precision,
        "knobs": {},
        "parity": parity(1 - 1e-5, 2e-6) if precision == "FP32" else parity(0.9961, 4e-3, "WARN", precision),
        "latency": latency(form, median_ms, speedup),
        "size_bytes": str(int({"FP32": 97.8, "BF16": 48.9, "INT8": 24.9}[precision] * 2**20)),
        "memory_bytes": str(int(410e6)),
        **more,
    }


def failed(form: str, reason: str, message: str) -> dict[str, Any]:
    """Return a `Candidate` that could not be made."""
    runtime, precision = form.split(" ")[:2]
    failure = {"reason": reason, "message": message}
    return {"form": form, "runtime": runtime, "precision": precision, "failure": failure}


BASELINE = "torchscript FP32, source"


def rich() -> dict[str, Any]:
    """Return a result in which much happened."""
    best = "openvino INT8"
    return {
        "software": [
            {"name": "onnxruntime", "version": "1.31.0"},
            {"name": "openvino", "version": "2026.4.0"},
            {"name": "torch", "version": "2.13.0"},
        ],
        "hardware_environment": {"device_type": "cpu-x86-64", "microarchitecture": HARDWARE},
        "test_data_info": {
            "test_data_source": "GENERATED",
            "test_data_shape": "image: 1*3*224*224",
            "test_data_type": "image: float32",
        },
        "optimization_result": {
            "baseline_time_ms": 29.9,
            "optimized_time_ms": 5.36,
            "baseline_qps": 33.4,
            "optimized_qps": 186.6,
            "speedup": 5.57,
        },
        "candidates": [
            candidate(BASELINE, 29.9, 1.0, note="the source form, the baseline"),
            candidate(best, 5.36, 5.57, recommended=True, pareto=True, quantizer="quantized", accuracy=0.7574),
            candidate("openvino BF16", 9.56, 3.12, pareto=True, accuracy=0.7612),
            candidate("openvino FP32", 18.4, 1.63, pareto=True, accuracy=0.7613, measured_by="optimizationTasks/4f"),
            candidate("onnxruntime FP32", 18.7, 1.6, accuracy=0.7613),
            candidate(
                "onnxruntime FP32, spinning off", 20.1, 1.49, note="eliminated after 2 rounds: 0.27x of the best"
            ),
            candidate("inductor FP32", 21.3, 1.4, note="eliminated after 1 round: 0.25x of the best"),
            candidate(
                "onnxruntime INT8",
                6.51,
                4.58,
                quantizer="quantized",
                parity=parity(0.985, 0.2, "FAIL", "INT8"),
                failure={"reason": "PARITY_FAILED", "message": "Output 'logits': its cosine of 0.9850 is under 0.99."},
            ),
            failed("inductor BF16", "TOOLCHAIN_UNAVAILABLE", "TorchInductor needs a C++ compiler; g++ is not there."),
            {
                "form": "openvino FP32, 2 streams",
                "runtime": "openvino",
                "precision": "FP32",
                "note": "not tried: the budget of 20 s was spent",
            },
        ],
        "no_gain": False,
        "profile": {
            "forms": [latency(BASELINE, 29.9, 1.0), latency(best, 5.36, 5.57)],
            "control": latency(BASELINE, 29.9, 1.002, 0.012),
            "rounds": 60,
            "threads": 2,
            "batch_size": 1,
            "hardware": HARDWARE,
            "conclusions": {best: f"5.57x faster than {BASELINE}"},
        },
        "source_accuracy": 0.7613,
        "metric": "top1",
        "warnings": ["The 100 calibration samples are too few to hold any out."],
    }


def no_gain() -> dict[str, Any]:
    """Return a result without a gain."""
    result = rich()
    base = candidate(BASELINE, 0.0151, 1.0, recommended=True, pareto=True)
    other = candidate("onnxruntime FP32", 0.0153, 0.99)
    figures = {
        "baseline_time_ms": 0.0151,
        "optimized_time_ms": 0.0151,
        "baseline_qps": 66225.0,
        "optimized_qps": 66225.0,
    }
    for name in ("warnings", "source_accuracy", "metric"):
        del result[name]
    return result | {
        "candidates": [base, other],
        "no_gain": True,
        "no_gain_reason": "the best other form, onnxruntime FP32, is no win: 0.99x lies within the noise of 1.01x.",
        "optimization_result": {**figures, "speedup": 1.0},
        "profile": {**result["profile"], "forms": [latency(BASELINE, 0.0151, 1.0)], "conclusions": {}},
    }
