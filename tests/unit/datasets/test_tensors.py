"""Datasets of tensors: valid arrays are read, others are rejected with array and row."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.datasets import tensor_reader
from engines.datasets.index import read_items
from engines.datasets.selection import Selection
from tests.unit.datasets.kit import imported, npz, refused, zipped


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_rows_become_items_with_their_classes(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    content = npz(x=x, ids=np.arange(3), label=np.array([1.0, 2.0, 1.0]), **{"label.kind": np.array(["a", "b", "b"])})
    result = imported(tmp_path, {"data.npz": content})
    assert (result["format"], result["type"], result["item_count"]) == ("TENSOR_FILES", "TENSORS", 3)
    assert result["size_bytes"] == len(content)
    selection = Selection(tmp_path / "out")
    assert selection.is_tensors
    assert [(item.row, item.classifications) for item in selection.items] == [
        (0, {"class": "1", "kind": "a"}),
        (1, {"class": "2", "kind": "b"}),
        (2, {"class": "1", "kind": "b"}),
    ]
    for row, item in enumerate(selection.items):
        found = selection.tensors(item)
        assert found.keys() == {"x", "ids"}
        np.testing.assert_array_equal(found["x"], x[row])
        assert found["ids"] == row


def test_npy_files_of_a_folder_are_the_arrays_of_one_set(tmp_path: Path) -> None:
    x, y = np.ones((2, 3), np.float32), np.zeros((2,), np.int64)
    imported(tmp_path, {"d/x.npy": npy(x), "d/y.npy": npy(y), "d/label.npy": npy(np.array(["p", "q"]))})
    selection = Selection(tmp_path / "out")
    assert [(item.path, item.classifications) for item in selection.items] == [
        ("d/tensors.npz", {"class": "p"}),
        ("d/tensors.npz", {"class": "q"}),
    ]
    assert selection.tensors(selection.items[1]).keys() == {"x", "y"}


def test_a_single_npy_is_named_like_its_file(tmp_path: Path) -> None:
    imported(tmp_path, {"input_0.npy": npy(np.asfortranarray(np.arange(6.0).reshape(2, 3)))})
    selection = Selection(tmp_path / "out")
    assert {name: array.tolist() for name, array in selection.tensors(selection.items[1]).items()} == {
        "input_0": [3.0, 4.0, 5.0]
    }


def test_several_files_follow_one_another(tmp_path: Path) -> None:
    result = imported(tmp_path, {"a.npz": npz(x=[1.0, 2.0]), "b.npz": npz(x=[3.0])})
    assert result["item_count"] == 3
    selection = Selection(tmp_path / "out")
    assert [float(selection.tensors(item)["x"]) for item in selection.items] == [1.0, 2.0, 3.0]


def archive(**files: bytes) -> bytes:
    return zipped({f"{name}.npy": content for name, content in files.items()})


def claimed(shape: str, dtype: str = "<f4") -> bytes:
    """An NPY file of six values whose header says something else."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(24)


LIE = npy(np.ones(3)).replace(b"(3,)", b"(9,)")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.npz": npz(x=[1.0, 2.0], y=[1.0])}, ["first axis", "x 2", "y 1"]),
        ({"a.npz": npz(label=[1, 2])}, ["contains only labels"]),
        ({"a.npz": npz(x=np.empty((0, 3)))}, ["0 rows"]),
        ({"a.npz": npz(x=np.float32(1))}, ["array 'x'", "single value"]),
        ({"a.npz": npz(x=[1j])}, ["complex128"]),
        ({"a.npz": npz(x=[1.0, 2.0], label=[[1], [2]])}, ["'label' has the shape 2*1"]),
        ({"a.npz": npz(x=[1.0], label=[0.5])}, ["row 0", "contains 0.5"]),
        ({"a.npz": npz(x=[np.nan])}, ["row 0", "NaN"]),
        ({"a.npz": archive(x=LIE)}, ["array 'x'", "9 values", "ends before"]),
        ({"a.npz": npz(x=[1.0])[:-30]}, ["a.npz"]),
        ({"a.npy": npy([1.0])[:-3]}, ["a.npy", "ends before"]),
        ({"a.npy": b"\x93NUMPY"}, ["a.npy"]),
        ({"a.npy": claimed("(1000000000000, 0)")}, ["array 'a'", "1000000000000*0", "no values"]),
        ({"a.npy": claimed("(1000000000000,)", "<U0")}, ["array 'a'", "no values"]),
        ({"a.npy": claimed("(-2, -3)")}, ["array 'a'", "no values"]),
        ({"a.npy": claimed("(" + "-" * 5000 + "1,)")}, ["a.npy", "not a valid NPZ"]),
        ({"a.npy": claimed("(" * 5000)}, ["a.npy", "not a valid NPZ"]),
        (
            {"a.npz": npz(x=[1.0]), "b.npz": npz(y=[1.0])},
            ["b.npz and a.npz", "x (float64 scalar)", "y (float64 scalar)"],
        ),
        ({"a.npz": npz(x=[[1.0]]), "b.npz": npz(x=[1.0])}, ["float64 1", "float64 scalar"]),
    ],
)
def test_unusable_tensors_are_rejected(tmp_path: Path, files: dict[str, bytes], words: list[str]) -> None:
    with refused(*words):
        imported(tmp_path, dict(files))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "evil",))

    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([Evil()], dtype=object))
    with refused("Python objects", "code"):
        imported(tmp_path, {"a.npz": buffer.getvalue()})
    assert not (tmp_path / "evil").exists()


def test_an_npz_can_be_a_bomb_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.datasets import archives

    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros((4 * 2**20,)))
    with refused("decompression bomb"):
        imported(tmp_path, {"a.npz": buffer.getvalue()})


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    from dataclasses import replace

    imported(tmp_path, {"a.npz": npz(x=[1.0])})
    selection = Selection(tmp_path / "out")
    with refused("a.npz has no row 7"):
        selection.tensors(replace(selection.items[0], row=7))


def test_an_archive_of_npz_files_is_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("folder/a.npz", npz(x=[1.0, 2.0]))
    assert imported(tmp_path, {"upload": buffer.getvalue()})["item_count"] == 2
    assert read_items(tmp_path / "out" / "index.parquet")[0].path == "folder/a.npz"


def test_the_number_of_rows_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_reader, "MAX_ROWS", 5)
    assert imported(tmp_path / "1", {"a.npz": npz(x=range(3)), "b.npz": npz(x=range(2))})["item_count"] == 5
    with refused("6 items", "at most 5", "first axis"):
        imported(tmp_path / "2", {"a.npz": npz(x=range(3)), "b.npz": npz(x=range(3))})


def test_duplicate_arrays_are_rejected(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as packed:
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(2):
            packed.writestr("x.npy", npy([1.0]))
    with refused("two arrays named 'x'"):
        imported(tmp_path, {"a.npz": buffer.getvalue()})
