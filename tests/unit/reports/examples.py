"""Reports of invented evaluations, as the engine would write them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from engines.evaluation.report import (
    EvaluationReport,
    Histogram,
    MetricValue,
    PackageInfo,
    SliceInfo,
    Software,
    SpecInfo,
    TaskAnswer,
    Times,
    WorstSample,
)
from engines.evaluation.report_figures import (
    Averages,
    ClassFigures,
    ClassificationTask,
    ConfusionMatrix,
    DetectionClass,
    DetectionFigures,
    EmbeddingFigures,
    OutputFigures,
    PrecisionRecallCurve,
)

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{7*7}}$\\frac{$\u202egnp\x00\ud800"
ANIMALS = ("cat", "dog", "fox", "golden retriever, long-haired", "horse", "owl", "pig", "rabbit", "seal", "wolf")


def picture(seed: int = 0, height: int = 90, width: int = 120) -> str:
    """Return a PNG of colourful noise as base64."""
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    stored = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(stored, "PNG")
    return base64.b64encode(stored.getvalue()).decode()


def metric(name: str, value: float, part: str = "", width: float = 0.02) -> MetricValue:
    return MetricValue(name=name, value=value, low=max(0.0, value - width), high=min(1.0, value + width), slice=part)


def times() -> Times:
    random = np.random.default_rng(1)
    counts, edges = np.histogram(4.1 + random.gamma(2, 0.35, 1200), bins=40)
    return Times(
        total_ms=6.31,
        preprocess_ms=1.42,
        inference_ms=4.48,
        postprocess_ms=0.21,
        latency_p50_ms=4.62,
        latency_p90_ms=5.41,
        latency_p99_ms=6.43,
        throughput=158.5,
        peak_memory_bytes=412 << 20,
        calls=1200,
        batch_size=1,
        loops=2,
        threads=2,
        latency_histogram=Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts))),
    )


def _common(method: str, **fields: Any) -> EvaluationReport:
    values: dict[str, Any] = {
        "package": PackageInfo(
            repo="animals",
            version="v3",
            device="cpu-x86-64",
            runtime="onnxruntime",
            runtime_version="1.31.0",
            precision="INT8",
            component="model",
            size_bytes=6_512_345,
        ),
        "spec": SpecInfo(
            method=method,
            args={"score_threshold": 0.3},
            data="dataset",
            iou_thresholds=tuple(round(0.5 + 0.05 * step, 2) for step in range(10)),
            slices=("scene", "light"),
            class_tasks=(),
            preprocessing=("resize to 224 × 224", "BGR to RGB"),
            seed=7,
            resamples=500,
        ),
        "samples": 600,
        "main_metric": "",
        "metrics": (),
        "times": times(),
        "software": (Software(name="lathe", version="2.0"), Software(name="onnxruntime", version="1.31.0")),
        "hardware": "AMD EPYC 9B45, 2 cores",
    }
    return EvaluationReport(**(values | fields))


def _slices(name: str) -> tuple[tuple[SliceInfo, ...], tuple[MetricValue, ...]]:
    known = {
        "light=day": (410, 0.935),
        "light=night": (190, 0.842),
        "scene=city": (300, 0.915),
        "scene=forest": (300, 0.9),
    }
    infos = tuple(SliceInfo(name=part, samples=samples) for part, (samples, _) in known.items())
    return infos, tuple(metric(name, value, part) for part, (_, value) in known.items())


def classification(classes: tuple[str, ...] = ANIMALS, *, pictures: int = 12) -> EvaluationReport:
    """Return a report of a classifier of one task."""
    random = np.random.default_rng(3)
    side = len(classes)
    counts = np.diag(random.integers(45, 70, side)) + (random.random((side, side)) < 0.3) * random.integers(
        0, 6, (side, side)
    )
    figures = tuple(
        ClassFigures(
            name=name,
            precision=float(counts[i, i] / max(1, counts[:, i].sum())),
            recall=float(counts[i, i] / counts[i].sum()),
            f1=float(2 * counts[i, i] / (counts[i].sum() + counts[:, i].sum())),
            support=int(counts[i].sum()),
            predicted=int(counts[:, i].sum()),
        )
        for i, name in enumerate(classes)
    )
    average = Averages(precision=0.91, recall=0.905, f1=0.907)
    task = ClassificationTask(
        task="animal",
        samples=int(counts.sum()),
        top1=0.907,
        top5=0.991,
        macro=average,
        weighted=average,
        classes=figures,
        confusion=ConfusionMatrix(classes=classes, counts=tuple(tuple(map(int, row)) for row in counts)),
    )
    infos, sliced = _slices("top1")
    worst = tuple(
        WorstSample(
            number=number,
            path=f"night/{number:04d}.jpg",
            loss=5.2 - number / 10,
            attributes={"light": "night", "scene": "city"},
            image_png=picture(number),
            answers=(TaskAnswer(task="animal", truth=classes[0], predicted=classes[1], score=0.93, correct=False),),
        )
        for number in range(pictures)
    )
    overall = (metric("top1", 0.907), metric("top5", 0.991, width=0.005), metric("f1", 0.905))
    return _common(
        "classification",
        main_metric="top1",
        metrics=(*overall, *sliced),
        slices=infos,
        classification=(task,),
        worst=worst,
        warnings=(
            "3 samples of the task 'animal' were left out, because their class is not among the model's: yeti (3).",
        ),
    )


def detection(classes: tuple[str, ...] = ("car", "person", "bicycle", "traffic light")) -> EvaluationReport:
    """Return a report of a detector."""
    recall = tuple(step / 100 for step in range(101))
    curves = []
    for place, name in enumerate(("", *classes)):
        end = 0.98 - 0.08 * place
        precision = tuple(float(max(0, 1 - (r / end) ** (6 - min(place, 4)))) if r < end else 0.0 for r in recall)
        curves.append(
            PrecisionRecallCurve(name=name, iou=0.5, ap=sum(precision) / 101, recall=recall, precision=precision)
        )
    figures = tuple(
        DetectionClass(name=name, truths=900 // (place + 1), detections=1400 // (place + 1), ap=0.61 - place * 0.07,
                       ap50=0.86 - place * 0.06, ap75=0.66 - place * 0.08, ar100=0.7 - place * 0.05)
        for place, name in enumerate(classes)
    )  # fmt: skip
    infos, sliced = _slices("map")
    worst = tuple(
        WorstSample(number=number, path=f"street/{number}.png", loss=7.5 - number, attributes={"scene": "city"},
                    image_png=picture(number + 50), truths=("car", "car"), detections=("car 0.93", "dog 0.41"))
        for number in range(5)
    )  # fmt: skip
    return _common(
        "yolo",
        main_metric="map",
        metrics=(metric("map", 0.532), metric("ap50", 0.79), metric("ap75", 0.58), *sliced),
        slices=infos,
        detection=DetectionFigures(
            iou_thresholds=(0.5, 0.75),
            truths=1875,
            detections=2916,
            areas={"small": 420, "medium": 900, "large": 555},
            classes=figures,
            curves=tuple(curves),
        ),
        worst=worst,
    )


def embedding() -> EvaluationReport:
    """Return a report of an embedding model."""
    vectors = EmbeddingFigures(
        dimension=384, norm_min=0.99, norm_mean=1, norm_max=1.01, mean_cosine=0.12, retrieval_keys=("topic",)
    )
    return _common("embedding", main_metric="recall@1", metrics=(metric("recall@1", 0.83),), embedding=vectors)


def raw() -> EvaluationReport:
    """Return a report of raw outputs."""
    outputs = (
        OutputFigures(
            name="mask", dtype="float32", shape=(2, 64, 64), elements=8192, not_finite=3, minimum=-4, maximum=7.2
        ),
        OutputFigures(name="empty", dtype="int64", shape=(0,), elements=0, not_finite=0),
    )
    return _common("raw", outputs=outputs)
