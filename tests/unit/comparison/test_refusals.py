"""Evaluations that are not comparable are refused with the difference."""

from pathlib import Path
from typing import Any

import pytest

from engines.evaluation.predictions import PredictionsHeader
from engines.failures import EngineFailure, FailureReason
from tests.unit.comparison.evaluations import (
    CLASSES,
    Evaluations,
    boxes_header,
    classes_header,
    classified,
    detected,
    sample,
)


def refused(evaluations: Evaluations, reason: FailureReason) -> str:
    with pytest.raises(EngineFailure) as caught:
        evaluations.compare()
    assert caught.value.reason is reason
    return caught.value.message


def test_different_evaluations_are_rejected_with_the_difference(tmp_path: Path) -> None:
    row = [classified(0, 0, 0)]
    cases: list[tuple[PredictionsHeader, list[Any], str]] = [
        (boxes_header(), [detected(0, [], [])], "the method classification, but 'evaluationTasks/1' with yolo"),
        (classes_header(classes={"kind": CLASSES}), row, "has the tasks animal, but 'evaluationTasks/1' has kind"),
        (classes_header(classes={"animal": (*CLASSES, "yak")}), row, "'evaluationTasks/1' has the additional 'yak'"),
        (classes_header(classes={"animal": CLASSES[1:]}), row, "'evaluationTasks/1' lacks 'cat'"),
        (classes_header(classes={"animal": CLASSES[::-1]}), row, "number 0 is 'cat' in 'evaluationTasks/0' and 'wolf'"),
        (classes_header(), [classified(9, 0, 0)], "share no samples: 'evaluationTasks/0' has 1, such as 'images/00000"),
        (classes_header(), [], "'evaluationTasks/1' has 0."),
    ]
    for number, (header, rows, words) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        pair = Evaluations(tmp_path / str(number))
        pair.add(classes_header(), row)
        pair.add(header, rows)
        assert words in refused(pair, FailureReason.INVALID_SPEC)


def test_one_evaluation_or_raw_outputs_are_rejected(evaluations: Evaluations) -> None:
    header = PredictionsHeader(method="raw", classes={})
    evaluations.add(header, [sample(0)])
    assert "two evaluations or more" in refused(evaluations, FailureReason.INVALID_SPEC)
    evaluations.add(header, [sample(0)])
    assert "raw have no figures" in refused(evaluations, FailureReason.INVALID_SPEC)


@pytest.mark.parametrize("file", ["predictions.parquet", "report.json"])
def test_wrong_files_are_rejected_by_name(file: str, evaluations: Evaluations) -> None:
    for _ in range(2):
        evaluations.add(classes_header(), [classified(0, 0, 0)])
    (evaluations.folder / "1" / file).write_text("{}")
    assert "is not" in refused(evaluations, FailureReason.INVALID_DATA)
