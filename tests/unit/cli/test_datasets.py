"""Reports of imports count what was left out, and show every warning page by page."""

from __future__ import annotations

import json
import re

import pytest
from lathe.registry.v1.dataset_service_pb2 import DATASET_STATE_READY, Dataset, ImportReport

from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite


@pytest.fixture
def dataset(suite: Suite) -> Dataset:
    """A dataset whose import had 70 bad annotations, of which the report keeps 60."""
    warnings = [f"x.json, annotation {number} of image 1: 'bbox' is []." for number in range(1, 61)]
    report = ImportReport(
        items=3, boxes=4, dropped_annotations=70, turned_images=2, warnings=warnings, more_warnings=10
    )
    found = Dataset(name="datasets/pets", display_name="Pets", state=DATASET_STATE_READY, report=report)
    suite.answers["GetDataset"] = found
    return found


def test_a_report_counts_what_was_left_out_and_points_to_the_rest(lathe: Lathe, dataset: Dataset) -> None:
    told = lathe("datasets", "get", "pets").err
    assert "70 annotations left out; the boxes of 2 images turned by EXIF data" in told
    assert "annotation 20 of" in told
    assert "annotation 21 of" not in told
    assert "… and 50 more warnings: lathe datasets warnings pets" in told


def test_every_warning_is_shown_page_by_page(lathe: Lathe, dataset: Dataset) -> None:
    seen: list[str] = []
    skip = 0
    while True:
        ran = lathe("datasets", "warnings", "pets", "--limit", "25", "--skip", str(skip))
        seen += re.findall(r"annotation (\d+) of", ran.out)
        if not (more := re.search(r"--skip (\d+)", ran.err)):
            break
        skip = int(more[1])
    assert seen == [str(number) for number in range(1, 61)]
    assert "10 more were only counted; a dataset keeps the first 60." in ran.err
    assert json.loads(lathe("datasets", "warnings", "pets", "--output", "json").out) == dataset.report.warnings[:50]


def test_a_dataset_without_warnings_says_so(lathe: Lathe, suite: Suite) -> None:
    suite.answers["GetDataset"] = Dataset(name="datasets/pets", state=DATASET_STATE_READY)
    assert "No warnings." in lathe("datasets", "warnings", "pets").err
