"""Class mappings rename, drop and count classes, and ask about mismatches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.datasets.found import Found
from engines.datasets.index import read_items
from engines.datasets.items import Box
from engines.datasets.mapping import Mapper, parse_mapping
from engines.failures import FailureReason
from tests.unit.datasets.kit import imported, lines, png, refused


def entry(task: str = "digit", key: str = "class", classes: str = "", **values: str) -> dict[str, Any]:
    return {"task": task, "key": key, "classes": list(classes), "values": values}


def test_a_mapping_that_fits_goes_through(tmp_path: Path) -> None:
    mapping = {"entries": [entry(classes="17", seven="7")]}
    result = imported(tmp_path, {"seven/a.png": png(seed=1), "1/b.png": png(seed=2)}, mapping=mapping)
    assert result["state"] == "READY"
    assert result["report"]["warnings"] == []
    assert [item.classifications for item in read_items(tmp_path / "out" / "index.parquet")] == [
        {"digit": "1"},
        {"digit": "7"},
    ]


MISFIT = {f"{name}/{number}.png": png(seed=number) for number, name in enumerate("1778889")}


def test_a_mapping_that_does_not_fit_waits_with_the_reason(tmp_path: Path) -> None:
    result = imported(tmp_path, MISFIT, mapping={"entries": [entry(classes="17234")]})
    report = result["report"]
    assert result["state"] == "AWAITING_CONFIRMATION"
    assert report["dropped_values"] == [
        {"key": "class", "value": "8", "count": 3},
        {"key": "class", "value": "9", "count": 1},
    ]
    assert [missing["value"] for missing in report["missing_classes"]] == ["2", "3", "4"]
    assert any(
        "2 values of the key 'class' belong to no class of the task 'digit'" in text for text in report["warnings"]
    )
    assert report["items"] == 3
    assert not (tmp_path / "out" / "index.parquet").exists()


def test_an_accepted_mapping_drops_values(tmp_path: Path) -> None:
    result = imported(tmp_path, MISFIT, mapping={"entries": [entry(classes="17234")]}, accept_mismatches=True)
    assert (result["state"], result["item_count"], result["report"]["dropped_items"]) == ("READY", 3, 4)
    assert result["report"]["dropped_values"][0] == {"key": "class", "value": "8", "count": 3}
    assert any("4 items have no annotation left" in text for text in result["report"]["warnings"])


def test_a_key_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    mapping = {"entries": [entry(key="digt", classes="1")]}
    text = lines({"image": "a.png", "classifications": {"digit": "1", "font": "x"}})
    report = imported(tmp_path, {"a.png": png(), "a.jsonl": text}, mapping=mapping)["report"]
    assert any("'digt'" in warning and "digit, font" in warning for warning in report["warnings"])


def test_an_import_without_a_mapped_class_is_rejected(tmp_path: Path) -> None:
    with refused("no usable item", "belongs to no class"):
        imported(tmp_path, {"x/a.png": png()}, mapping={"entries": [entry(classes="17")]}, accept_mismatches=True)


def test_images_that_never_had_annotations_stay(tmp_path: Path) -> None:
    text = lines({"image": "a.png", "classifications": {"class": "1"}}, {"image": "b.png"})
    mapping = {"entries": [entry(classes="1")]}
    assert (
        imported(tmp_path, {"a.png": png(), "b.png": png(seed=1), "a.jsonl": text}, mapping=mapping)["item_count"] == 2
    )


def test_boxes_are_mapped_under_label() -> None:
    mapper = Mapper(parse_mapping([entry("object", "label", "ab", c="b")]))
    boxes = tuple(Box(label, 0, 0, 1, 1) for label in "acdd")
    mapped = mapper.map(Found("x", {"scene": "night"}, boxes))
    assert mapped is not None
    assert [box.label for box in mapped.boxes] == ["a", "b"]
    assert mapped.classifications == {"scene": "night"}
    assert mapper.dropped_values == [{"key": "label", "value": "d", "count": 2}]


def test_an_image_whose_boxes_are_all_dropped_stays_as_background() -> None:
    mapper = Mapper(parse_mapping([entry("object", "label", "a"), entry("scene", "scene", "day")]))
    mapped = mapper.map(Found("x", {"scene": "night"}, (Box("d", 0, 0, 1, 1),)))
    assert mapped == Found("x")
    assert mapper.map(Found("y", {"scene": "night"})) is None
    assert (mapper.items, mapper.background, mapper.emptied) == (1, 1, 1)


def test_keys_can_swap_their_names() -> None:
    mapper = Mapper(parse_mapping([entry("a", "b"), entry("b", "a")]))
    mapped = mapper.map(Found("x", {"a": "1", "b": "2"}))
    assert mapped is not None
    assert mapped.classifications == {"a": "2", "b": "1"}


def test_a_task_takes_precedence_over_a_key_of_its_name() -> None:
    mapper = Mapper(parse_mapping([entry("digit", "class", "1")]))
    mapped = mapper.map(Found("x", {"digit": "old", "class": "1"}))
    assert mapped is not None
    assert mapped.classifications == {"digit": "1"}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("a", "x"), entry("b", "x")], "twice"),
        ([entry("a", "x"), entry("a", "y")], "twice"),
        ([entry(classes="17", seven="8")], "the class '8'"),
    ],
)
def test_mappings_that_contradict_themselves_are_rejected(entries: list[dict[str, Any]], words: str) -> None:
    with refused(words, reason=FailureReason.INVALID_SPEC):
        parse_mapping(entries)


@given(
    st.lists(st.dictionaries(st.sampled_from("xyz"), st.sampled_from("abcd"), max_size=3)),
    st.sets(st.sampled_from("abc"), min_size=1),
)
def test_every_value_is_kept_or_counted(found: list[dict[str, str]], classes: set[str]) -> None:
    mapper = Mapper(parse_mapping([{"task": "t", "key": "x", "classes": sorted(classes)}]))
    mapped = [mapper.map(Found("p", values)) for values in found]
    kept = sum("t" in item.classifications for item in mapped if item is not None)
    dropped = sum(value["count"] for value in mapper.dropped_values)
    assert kept + dropped == sum("x" in values for values in found)
    assert mapper.items + mapper.emptied == len(found)
    for before, after in zip(found, mapped, strict=True):
        rest = {key: value for key, value in before.items() if key != "x"}
        assert after is None or {key: value for key, value in after.classifications.items() if key != "t"} == rest
        assert (after is None) == (set(before) == {"x"} and before["x"] not in classes)
