"""The index returns the written items, and reads only the needed parts for pages, filters and samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.datasets import index
from engines.datasets.columns import ROW_GROUP
from engines.datasets.items import Box, Item
from engines.datasets.masks import Hits, compared, in_lists, in_map
from tests.unit.datasets.kit import refused

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)
boxes = st.builds(Box, texts, numbers, numbers, numbers, numbers, crowd=st.booleans(), area=st.none() | numbers)
small = st.sampled_from(["a", "b", "ç"])
items = st.builds(
    Item,
    path=texts,
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    size_bytes=st.integers(0, 2**50),
    width=st.integers(0, 2**31 - 1),
    height=st.integers(0, 2**31 - 1),
    classifications=st.dictionaries(small, small, max_size=3),
    boxes=st.lists(boxes, max_size=3).map(tuple),
    attributes=st.dictionaries(texts, texts, max_size=3),
    row=st.integers(0, 2**40),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(items, max_size=12))
def test_items_come_back_as_they_were_written(wanted: list[Item], tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    summary = index.write_index(path, iter(wanted))
    assert index.read_items(path) == wanted
    assert summary.count == index.count(path) == len(wanted)
    assert summary.boxes == sum(len(item.boxes) for item in wanted)
    assert [Item.from_dict(item.to_dict()) for item in wanted] == wanted
    assert list(index.contents(path)) == sorted({item.sha256: item.size_bytes for item in wanted}.items()) or any(
        a.sha256 == b.sha256 and a.size_bytes != b.size_bytes for a in wanted for b in wanted
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wanted=st.lists(items, max_size=12),
    values=st.dictionaries(st.sampled_from(["a", "b", "label"]), small, max_size=2),
    limit=st.integers(1, 5),
)
def test_pages_are_the_items_that_have_the_values(
    wanted: list[Item], values: dict[str, str], limit: int, tmp_path: Path
) -> None:
    path = tmp_path / "index.parquet"
    index.write_index(path, wanted)

    def has(item: Item, key: str, value: str) -> bool:
        if key == "label":
            return any(box.label == value for box in item.boxes)
        return value in {item.classifications.get(key), item.attributes.get(key)}

    def mask(batch: Any) -> Hits:
        found = np.ones(batch.num_rows, np.bool_)
        for key, value in values.items():
            if key == "label":
                boxes = batch.column("boxes")
                found &= in_lists(boxes, compared(boxes.values.field("label"), "=", value))
            else:
                maps = (batch.column("classifications"), batch.column("attributes"))
                found &= np.logical_or(*(in_map(each, key, compared(each.items, "=", value)) for each in maps))
        return found

    expected = [(n, item) for n, item in enumerate(wanted) if all(has(item, *pair) for pair in values.items())]
    found: list[tuple[int, Item]] = []
    start: int | None = 0
    while start is not None:
        rows, start = index.page(path, start, limit, mask)
        assert len(rows) == limit or start is None
        found += rows
    assert found == expected


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three row groups, the last one short."""
    path = tmp_path_factory.mktemp("index") / "index.parquet"
    index.write_index(path, _numbered(2 * ROW_GROUP + 100))
    return path


def _numbered(count: int) -> Iterator[Item]:
    for number in range(count):
        attributes = {"rare": "yes"} if number % 5000 == 4999 else {}
        digest = hashlib.sha256(str(number // 2).encode()).hexdigest()
        yield Item(f"{number}.png", digest, 7, 4, 4, {"digit": str(number % 10)}, (), attributes)


def test_a_page_crosses_row_groups(large: Path) -> None:
    rows, start = index.page(large, ROW_GROUP - 2, 4)
    assert [(number, item.path) for number, item in rows] == [
        (number, f"{number}.png") for number in range(ROW_GROUP - 2, ROW_GROUP + 2)
    ]
    assert start == ROW_GROUP + 2


def test_the_last_page_says_so(large: Path) -> None:
    rows, start = index.page(large, 2 * ROW_GROUP + 98, 10)
    assert len(rows) == 2
    assert start is None
    assert index.page(large, 10**9, 10) == ([], None)


def test_rare_values_are_found_across_row_groups(large: Path) -> None:
    def rare(batch: Any) -> Hits:
        return in_map(batch.column("attributes"), "rare")

    rows, start = index.page(large, 0, 2, rare)
    assert [number for number, _ in rows] == [4999, 9999]
    assert start == 14999
    assert index.page(large, 15000, 2, rare) == ([], None)


def test_one_item_by_its_number(large: Path) -> None:
    assert index.item(large, ROW_GROUP + 5).path == f"{ROW_GROUP + 5}.png"
    with pytest.raises(IndexError, match="no item 99999"):
        index.item(large, 99999)


def test_the_same_seed_chooses_the_same_items_in_their_order(large: Path, tmp_path: Path) -> None:
    chosen = [tmp_path / name for name in ("a", "b", "c")]
    assert [index.choose(large, path, 50, seed) for path, seed in zip(chosen, (1, 1, 2), strict=True)] == [50] * 3
    first, same, other = (index.read_items(path) for path in chosen)
    assert first == same != other
    numbers = [int(item.path.removesuffix(".png")) for item in first]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("count", [0, 10**6])
def test_choosing_all_keeps_all(large: Path, tmp_path: Path, count: int) -> None:
    assert index.choose(large, tmp_path / "all", count, 3) == 2 * ROW_GROUP + 100
    assert index.read_items(tmp_path / "all") == index.read_items(large)


def test_contents_are_unique_and_their_size_is_counted_once(large: Path, tmp_path: Path) -> None:
    assert len(list(index.contents(large))) == ROW_GROUP + 50
    summary = index.write_index(tmp_path / "i", _numbered(30))
    assert summary.size_bytes == 15 * 7
    assert summary.classes[0] == {"key": "digit", "value": "0", "count": 3}


def test_contents_come_in_the_order_of_their_digests(tmp_path: Path) -> None:
    digests = [
        f"{first:02x}" + "00" * 15 + f"{last:02x}" + "00" * 15 for first, last in [(9, 0), (1, 255), (1, 0), (9, 0)]
    ]
    index.write_index(
        tmp_path / "i", (Item(f"{row}.npy", sha256, 7, 0, 0, {}, (), {}, row) for row, sha256 in enumerate(digests))
    )
    assert list(index.contents(tmp_path / "i")) == [(sha256, 7) for sha256 in sorted(set(digests))]
    index.write_index(tmp_path / "empty", [])
    assert list(index.contents(tmp_path / "empty")) == []


def test_a_file_that_is_not_an_index_is_rejected(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "text").write_text("no parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other")
    for name in ("text", "other", "missing"):
        with refused("not the index of a dataset"):
            index.count(tmp_path / name)
