"""Results of invented quantizations, with the field names of the proto."""

from __future__ import annotations

from typing import Any


def _latency(form: str, median: float, speedup: float, spread: float = 0.03) -> dict[str, Any]:
    return {
        "form": form,
        "median_ms": median,
        "p90_ms": median * 1.12,
        "p99_ms": median * 1.4,
        "speedup": speedup,
        "speedup_low": speedup - spread,
        "speedup_high": speedup + spread,
    }


def quantization(**fields: Any) -> dict[str, Any]:
    """Return a result that won: three candidates, a ladder of three rungs."""
    rungs = [(0, 0.941, 2.1), (1, 0.958, 2.18), (4, 0.966, 2.4)]
    result: dict[str, Any] = {
        "source_size_bytes": "4612345",
        "size_bytes": "1191234",
        "sensitivities": [
            {"node": f"/features/block.{number}/conv/Conv", "operator": "Conv", "sqnr_db": 14.0 + 1.7 * number}
            for number in range(24)
        ],
        "ladder": [
            {"floating_point_nodes": [f"/features/{n}/Conv" for n in range(kept)], "accuracy": top1, "median_ms": ms}
            for kept, top1, ms in rungs
        ],
        "parity": {
            "verdict": "WARN",
            "measure": "COSINE",
            "threshold": 1e-3,
            "limit": 1e-2,
            "waiver": "accuracy is judged instead",
            "samples": 64,
            "sample_source": "USER",
            "outputs": [
                {"output": "logits", "max_abs_error": 0.41, "max_rel_error": 0.03, "cosine": 0.9987, "sqnr_db": 26.4,
                 "top1_agreement": 0.984, "verdict": "WARN"},
            ],
        },
        "profile": {
            "forms": [_latency("onnxruntime FP32", 5.1, 1.0, 0.0), _latency("onnxruntime INT8", 2.4, 2.13)],
            "control": _latency("onnxruntime FP32", 5.12, 0.998, 0.02),
            "rounds": 200,
            "threads": 2,
            "batch_size": "1",
            "hardware": "AMD EPYC 9B45, 2 cores",
            "conclusions": {"onnxruntime INT8": "2.13x faster than onnxruntime FP32"},
        },
        "software": [{"name": "onnxruntime", "version": "1.31.0"}, {"name": "nncf", "version": "3.4.0"}],
        "candidates": [
            {"quantizer": "onnxruntime ENTROPY_2 per channel", "cosine": 0.9987, "sqnr_db": 26.4, "accuracy": 0.966,
             "median_ms": 2.4, "size_bytes": "1191234", "chosen": True},
            {"quantizer": "nncf on ONNX", "cosine": 0.9971, "sqnr_db": 22.8, "accuracy": 0.957, "median_ms": 2.9,
             "size_bytes": "1201234", "reason": "slower and less accurate"},
            {"quantizer": "onnxruntime dynamic", "reason": "no MatMul or Gemm in the graph"},
        ],
        "coverage": {"products": "24", "quantized_products": "22", "weights": "1000", "quantized_weights": "930"},
        "source_accuracy": 0.968,
        "accuracy": 0.966,
        "metric": "top1",
        "bound_held": True,
        "hardware": "AMD EPYC 9B45, 2 cores",
        "warnings": ["2 of 128 calibration images are almost black."],
    }  # fmt: skip
    return result | fields


def no_gain() -> dict[str, Any]:
    """Return a result that is not faster, of no evaluation dataset."""
    result = quantization(no_gain_reason="most of the time is in LSTM, which this runtime has no integer kernel for")
    for name in ("source_accuracy", "accuracy", "metric", "bound_held", "ladder"):
        del result[name]
    for candidate in result["candidates"]:
        candidate.pop("accuracy", None)
    result["profile"]["forms"][1] = _latency("onnxruntime INT8", 5.2, 0.99)
    return result
