"""Trained models of other people, beside what computes them without Lathe. `python -m tests.bench.zoo` does all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.api import conversion, evaluation, quantization
from engines.sandbox import Reporter
from tests.bench.zoo import jobs
from tests.bench.zoo.fetching import NotFetchedError
from tests.bench.zoo.models import SUBJECTS, Subject

REPORT = Reporter(lambda _progress: None)


def laid_out(name: str, workdir: Path, runtime: str) -> tuple[Subject, dict[str, Any]]:
    subject = SUBJECTS[name]
    try:
        request = jobs.lay_out(subject, workdir)
    except NotFetchedError as reason:
        pytest.skip(str(reason))
    return subject, {**request, "template": {**request["template"], "runtime": runtime}}


@pytest.mark.parametrize(
    ("name", "runtime"),
    [("open_nsfw (Caffe)", "onnxruntime"), ("MTCNN O-Net", "onnxruntime"), ("PP-OCR, direction", "openvino")],
)
def test_a_package_computes_what_the_model_computes_without_lathe(name: str, runtime: str, tmp_path: Path) -> None:
    subject, request = laid_out(name, tmp_path, runtime)
    result = conversion.run(request, tmp_path, REPORT)
    (component,) = result["components"]
    assert component["parity"]["verdict"] == "PASS"
    assert jobs.agreement(subject, tmp_path).error < 1e-4


def test_an_int8_form_tells_the_classes_that_the_model_tells(tmp_path: Path) -> None:
    subject, request = laid_out("MTCNN O-Net", tmp_path, "openvino")
    result = quantization.run({"conversion": request, "spec": {"scheme": "STATIC"}}, tmp_path, REPORT)["result"]
    assert result["parity"]["verdict"] in {"PASS", "WARN"}
    # Of one sample's boxes, which move more than its classes: 0.978 to 0.99, by which of the forms is the fastest.
    assert jobs.agreement(subject, tmp_path).cosine > 0.95
    judged = evaluation.run(jobs.evaluation_of(subject, tmp_path), tmp_path, REPORT)
    assert jobs.top_1(judged) > 0.9
