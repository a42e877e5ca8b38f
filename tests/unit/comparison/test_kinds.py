"""Detectors are compared by COCO's figures and their boxes, embeddings by rank and cosine similarity."""

from typing import Any

import numpy as np
import pytest

from engines.evaluation.predictions import PredictionsHeader
from tests.unit.comparison.evaluations import (
    Evaluations,
    boxes_header,
    delta,
    detected,
    hit,
    sample,
    stored,
    truth,
)


def test_detectors_are_compared_by_coco_figures(evaluations: Evaluations) -> None:
    def rows(hits: int) -> list[Any]:
        found = []
        for number in range(12):
            boxes = [truth(0, 10, 10), truth(1, 200, 100)]
            said = [hit(0, 10, 10), hit(1, 200, 100)] if number < hits else [hit(0, 10, 10)]
            found.append(detected(number, boxes, said, loss=0.2 if number < hits else 1.1))
        return found

    evaluations.add(boxes_header(), rows(12))
    evaluations.add(boxes_header(), rows(6)[::-1])
    found = evaluations.compare()
    assert delta(found, "ap/car")["value"] == 0
    assert delta(found, "ap/bus")["value"] == pytest.approx(51 / 101 - 1)
    assert delta(found, "map")["value"] == pytest.approx((51 / 101 - 1) / 2)
    assert delta(found, "recall50", "light=night")["value"] == pytest.approx(-0.25)
    assert found["agreement"] == 0.5
    assert len(found["regressions"]) == 6
    assert found["regressions"][0]["loss"] == pytest.approx(0.45)
    assert stored(evaluations).regressions[0].boxes_after == ("car 0.90",)


@pytest.mark.parametrize(
    ("said", "agrees"),
    [
        ([hit(0, 10, 10)], True),
        ([hit(0, 18, 10)], True),
        ([hit(0, 10, 10, score=0.3)], True),
        ([hit(0, 10, 10, score=0.2)], False),
        ([hit(0, 40, 40)], False),
        ([hit(1, 10, 10)], False),
        ([hit(0, 10, 10), hit(0, 100, 10)], False),
        ([hit(0, 10, 10), hit(0, 100, 10, score=0.4)], True),
        ([], False),
    ],
)
def test_detectors_agree_if_every_sure_box_has_a_match(said: list[Any], agrees: bool, evaluations: Evaluations) -> None:
    evaluations.add(boxes_header(), [detected(0, [truth(0, 10, 10)], [hit(0, 10, 10)])])
    evaluations.add(boxes_header(), [detected(0, [truth(0, 10, 10)], said)])
    assert evaluations.compare()["agreement"] == float(agrees)


def test_embeddings_are_compared_by_rank_and_by_angle(evaluations: Evaluations) -> None:
    header = PredictionsHeader(method="embedding", classes={}, main_metric="precision_at_1")
    vectors = [(1.0, 0.0), (0.0, 2.0), (1.0, 1.0)]
    for ranks in ((1, 1, 2), (1, 4, 2)):
        rows = [
            sample(n, vector=vector if ranks[1] == 1 or n else (1.0, 1.0), loss=1 - 1 / rank, correct=rank == 1)
            for n, (vector, rank) in enumerate(zip(vectors, ranks, strict=True))
        ]
        evaluations.add(header, rows)
    found = evaluations.compare()
    assert delta(found, "mrr")["value"] == pytest.approx(-0.25)
    assert delta(found, "precision_at_1")["value"] == pytest.approx(-1 / 3)
    assert found["agreement"] == pytest.approx((np.sqrt(0.5) + 2) / 3)
    assert [(entry["sample"], entry["loss"]) for entry in found["regressions"]] == [("images/00001.jpg", 0.75)]
