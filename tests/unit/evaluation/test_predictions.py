"""`predictions.parquet` is read back as written."""

from pathlib import Path

import pytest

from engines.evaluation.predictions import (
    DetectedBox,
    PredictionsHeader,
    PredictionsWriter,
    SamplePrediction,
    TaskPrediction,
    TrueBox,
    read_header,
    read_predictions,
)
from engines.failures import EngineFailure, FailureReason

HEADER = PredictionsHeader(method="detection", classes={"label": ("cat", "dog")}, main_metric="map")


def sample(number: int) -> SamplePrediction:
    return SamplePrediction(
        number=number,
        path=f"{number}.png",
        sha256="ab" * 32,
        row=0,
        width=40,
        height=30,
        attributes={"scene": "night"} if number % 2 else {},
        loss=None if number == 2 else 0.1 + 0.2,
        correct=None if number == 2 else bool(number % 2),
        tasks=(TaskPrediction("kind", 1, -1, 0.5, 0.25, 3, 1.25),),
        truths=(TrueBox(0, 1.5, 2, 3, 4, 12.0, crowd=True),),
        detections=(DetectedBox(1, 0.75, 1, 2, 3, 4), DetectedBox(0, 0.5, 1, 2, 3, 4)),
        vector=(0.5, -1.0),
    )


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    samples = [sample(number) for number in range(2500)]
    with PredictionsWriter(tmp_path / "p.parquet", HEADER) as writer:
        for start in range(0, len(samples), 7):
            writer.add(samples[start : start + 7])
    assert read_header(tmp_path / "p.parquet") == HEADER
    assert list(read_predictions(tmp_path / "p.parquet")) == samples
    assert (samples[1].path, samples[1].sha256, samples[1].row) == ("1.png", "ab" * 32, 0)
    assert not samples[0].tasks[0].correct


def test_an_empty_file_has_its_header(tmp_path: Path) -> None:
    with PredictionsWriter(tmp_path / "p.parquet", HEADER):
        pass
    assert read_header(tmp_path / "p.parquet") == HEADER
    assert list(read_predictions(tmp_path / "p.parquet")) == []


def test_another_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(EngineFailure, match=r"'p.parquet' is not a file of predictions") as caught:
        list(read_predictions(path))
    assert caught.value.reason == FailureReason.INVALID_DATA
