"""The page of a comparison."""

from pathlib import Path

import pytest

from tests.unit.comparison.evaluations import (
    CLASSES,
    Evaluations,
    boxes_header,
    classes_header,
    detected,
    hit,
    random_classified,
    truth,
)
from tests.unit.reports import examples
from tests.unit.reports.html import Document, require_self_contained


def page(evaluations: Evaluations) -> Document:
    evaluations.compare()
    return require_self_contained((evaluations.folder / "out" / "comparison.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("count", [2, 3])
def test_differences_slices_classes_and_samples_are_shown(count: int, tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path)
    for seed in range(count):
        report = examples.classification(CLASSES, pictures=6)
        package = report.package.model_copy(update={"version": f"v{seed}"})
        rows = random_classified(300, 0.95 - 0.12 * seed, seed)
        evaluations.add(classes_header(), rows, report.model_copy(update={"package": package}))
    words = page(evaluations).words
    others = "animals v1" if count == 2 else "animals v1 and animals v2"
    assert f"{others} compared with animals v0" in words
    for part in (
        "animals v1 is worse in Top-1 accuracy",
        "McNemar",
        "light=night",
        "F1 by class",
        "not a paired measurement",
    ):
        assert part in words
    assert "Samples that got worse" in words


def test_detectors_with_hostile_names_and_equal_packages_are_shown(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path)
    header = boxes_header(classes={"d": (examples.HOSTILE.replace("\ud800", ""), "<b>")})
    for hits in (6, 2):
        rows = [
            detected(n, [truth(0, 9, 9), truth(1, 90, 9)], [hit(0, 9, 9)] if n < hits else [], loss=float(n >= hits))
            for n in range(6)
        ]
        evaluations.add(header, rows)
    document = page(evaluations)
    assert "animals v3 INT8 (2) compared with animals v3 INT8 (1)" in document.words
    assert "onerror=alert(1)>" in document.words
    assert "nothing (2 true boxes)" in document.words
