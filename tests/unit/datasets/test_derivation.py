"""Derivations: merged sources, classes merged and dropped, filters, samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.datasets.derivation import run
from engines.datasets.derivation_steps import stratified
from engines.datasets.index import read_items, write_index
from engines.datasets.items import Box, Item
from engines.failures import FailureReason
from tests.unit.datasets.kit import refused, silent


def item(number: int, digit: str | None = None, scene: str | None = None, boxes: str = "", width: int = 9) -> Item:
    return Item(
        f"{number}.png",
        f"{number:064x}",
        10,
        width,
        width,
        {"digit": digit} if digit else {},
        tuple(Box(label, 0, 0, 1, 1) for label in boxes),
        {"scene": scene} if scene else {},
    )


def derived(workdir: Path, sources: list[list[Item]], *steps: dict[str, Any]) -> tuple[list[Item], dict[str, Any]]:
    paths = []
    for number, items in enumerate(sources):
        paths.append(f"source/{number}.parquet")
        write_index(workdir / paths[-1], items)
    result = run({"sources": paths, "steps": list(steps)}, workdir, silent())
    return read_items(workdir / "out" / "index.parquet"), result


ITEMS = [
    item(n, digit, scene) for n, (digit, scene) in enumerate(zip("1172", ["day", "night", "day", None], strict=True))
]


def test_classes_are_merged(tmp_path: Path) -> None:
    step = {"mergeClasses": {"key": "digit", "classes": ["1", "7"], "into": "stroke"}}
    items, result = derived(tmp_path, [ITEMS], step)
    assert [i.classifications["digit"] for i in items] == ["stroke", "stroke", "stroke", "2"]
    assert result["classes"][0] == {"key": "digit", "value": "stroke", "count": 3}
    assert result["type"] == "CLASSIFICATION"


def test_classes_of_boxes_are_merged_and_dropped(tmp_path: Path) -> None:
    source = [item(0, boxes="abc"), item(1, boxes="c"), item(2), item(3, "1", boxes="c")]
    merge = {"merge_classes": {"key": "label", "classes": ["a", "b"], "into": "ab"}}
    items, result = derived(tmp_path, [source], merge, {"drop_classes": {"key": "label", "classes": ["c"]}})
    assert [(i.path, [b.label for b in i.boxes]) for i in items] == [
        ("0.png", ["ab", "ab"]),
        ("1.png", []),  # As background: a detector must find nothing there.
        ("2.png", []),
        ("3.png", []),
    ]
    assert result["type"] == "CLASSIFICATION_AND_DETECTION"


def test_an_item_without_an_annotation_left_is_dropped(tmp_path: Path) -> None:
    items, _ = derived(tmp_path, [ITEMS], {"dropClasses": {"key": "digit", "classes": ["1"]}})
    assert [i.path for i in items] == ["2.png", "3.png"]


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ({"key": "scene", "values": ["day"]}, [0, 2]),
        ({"key": "scene", "values": ["day"], "exclude": True}, [1, 3]),
        ({"key": "digit", "values": ["1", "2"]}, [0, 1, 3]),
    ],
)
def test_items_are_filtered(tmp_path: Path, step: dict[str, Any], kept: list[int]) -> None:
    items, result = derived(tmp_path, [ITEMS], {"filter": step})
    assert items == [ITEMS[number] for number in kept]
    assert result["item_count"] == len(kept)


def test_sources_are_merged_and_paths_kept_apart(tmp_path: Path) -> None:
    from dataclasses import replace

    clash = replace(item(5), path="1/0.png")
    items, result = derived(tmp_path, [[item(0), clash], [item(0, "1"), item(9)], [item(0)]])
    assert [i.path for i in items] == ["0.png", "1/0.png", "1/1/0.png", "9.png", "2/0.png"]
    assert result["size_bytes"] == 30


def test_rows_of_a_file_keep_one_path(tmp_path: Path) -> None:
    from dataclasses import replace

    rows = [replace(item(1, width=0), path="a.npz", row=row) for row in range(3)]
    items, result = derived(tmp_path, [rows, rows])
    assert [(i.path, i.row) for i in items] == [(path, row) for path in ("a.npz", "1/a.npz") for row in range(3)]
    assert result["type"] == "TENSORS"


def test_images_and_tensors_do_not_mix(tmp_path: Path) -> None:
    with refused("cannot be merged", reason=FailureReason.INVALID_SPEC):
        derived(tmp_path, [[item(1)], [item(2, width=0)]])


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"merge_classes": {"key": "digit", "classes": ["1", "8"], "into": "x"}}, ["'8'", "1, 2, 7"]),
        ({"drop_classes": {"key": "digt", "classes": ["1"]}}, ["No item has the key 'digt'"]),
        ({"filter": {"key": "scene", "values": ["dusk"]}}, ["'dusk'", "day, night"]),
        ({"sample": {"count": 2, "stratify_by": "weather"}}, ["'weather'", "digit, scene"]),
        ({"sample": {"count": "0"}}, ["at least 1"]),
        ({"sample": {"count": 2, "stratifyBy": "label"}}, ["several boxes"]),
        (
            {"drop_classes": {"key": "digit", "classes": ["1", "2", "7"]}},
            ["leaves no item with an annotation", "'digit'"],
        ),
        ({"shuffle": {}}, ["merge_classes, drop_classes, filter, sample", "shuffle"]),
        ({"filter": {"key": "scene"}}, ["names no values"]),
    ],
)
def test_names_that_no_item_has_are_rejected(tmp_path: Path, step: dict[str, Any], words: list[str]) -> None:
    with refused(*words, reason=FailureReason.INVALID_SPEC):
        derived(tmp_path, [ITEMS], step)


def test_empty_sources_are_rejected(tmp_path: Path) -> None:
    with refused("contain no items", reason=FailureReason.INVALID_SPEC):
        derived(tmp_path, [[], []])


def test_the_same_seed_samples_the_same_items(tmp_path: Path) -> None:
    source = [item(number, str(number % 3)) for number in range(50)]
    samples = [
        derived(tmp_path / str(n), [source], {"sample": {"count": "10", "seed": seed, "stratifyBy": "digit"}})[0]
        for n, seed in enumerate((4, 4, 5))
    ]
    assert samples[0] == samples[1] != samples[2]
    assert samples[0] == sorted(samples[0], key=source.index)
    assert Counter(i.classifications["digit"] for i in samples[0]) == {"0": 4, "1": 3, "2": 3}


def test_steps_run_in_their_order(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [{"filter": {"key": "scene", "values": ["day"]}}, {"sample": {"count": 1}}]
    items, _ = derived(tmp_path, [ITEMS], *steps)
    assert len(items) == 1
    assert items[0].attributes == {"scene": "day"}
    items, _ = derived(tmp_path / "b", [ITEMS], {"sample": {"count": 99}})
    assert items == ITEMS


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 9))
def test_a_stratified_sample_keeps_proportions(values: list[int], count: int, seed: int) -> None:
    strata = np.unique(values, return_inverse=True)[1].astype(np.int64)
    kept = stratified(strata, count, seed)
    assert kept.sum() == min(count, len(values))
    for stratum in np.unique(strata):
        share = (strata == stratum).sum() * min(count, len(values)) / len(values)
        assert np.floor(share) <= kept[strata == stratum].sum() <= np.ceil(share)
    assert (kept == stratified(strata, count, seed)).all()
