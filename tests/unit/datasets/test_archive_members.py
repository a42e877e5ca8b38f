"""Names of archive members: none leaves the archive, and each can be read, stored and sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.datasets.archive_members import safe_name
from engines.datasets.index import read_items
from engines.failures import EngineFailure
from tests.unit.datasets.kit import imported, png, refused, tar, zipped


@given(st.text(st.sampled_from("ab./\\:\0 é") | st.characters(), max_size=20))
def test_accepted_names_stay_inside_the_archive(name: str) -> None:
    try:
        safe = safe_name(name)
    except EngineFailure:
        return
    if safe is not None:
        parts = safe.split("/")
        assert not safe.startswith("/")
        assert all(part and not part.startswith(".") for part in parts)
        assert safe_name(safe) == safe


@given(st.lists(st.sampled_from(["a", "b c", "ü", "x.png"]), min_size=1, max_size=5))
def test_plain_names_stay_as_they_are(parts: list[str]) -> None:
    assert safe_name("/".join(parts)) == "/".join(parts)
    assert safe_name("./" + "\\".join(parts)) == "/".join(parts)


def raw_zip(name: bytes, flags: int = 0) -> bytes:
    """Return a zip of one member whose name is these bytes, marked as UTF-8 or not."""
    return (
        zipped({"N" * len(name): png()})
        .replace(b"N" * len(name), name)
        .replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00" + flags.to_bytes(2, "little"))
    )


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (tar((b"gr\xf6\xdfe.png".decode("utf-8", "surrogateescape"), png(), {})), "gr%F6%DFe.png", True),
        (tar(("größe 图.png", png(), {})), "größe 图.png", False),
        (raw_zip("größe.png".encode()), "größe.png", False),
        (raw_zip(b"gr\x94\xe1e.png"), "größe.png", False),
        (zipped({"line\nbreak\u202egnp.png": png()}), "line%0Abreak%E2%80%AEgnp.png", True),
        (zipped({"👩\u200d🔬.png": png()}), "👩\u200d🔬.png", False),
    ],
)
def test_every_name_can_be_read_and_stored(tmp_path: Path, content: bytes, name: str, told: bool) -> None:
    result = imported(tmp_path, {"upload.bin": content})
    assert [item.path for item in read_items(tmp_path / "out" / "index.parquet")] == [name]
    assert any("1 file has a name" in said and name in said for said in result["report"]["warnings"]) is told


def test_a_name_marked_as_utf8_that_is_not_is_reported(tmp_path: Path) -> None:
    with refused("gr\\xf6\\xdfe.png", "marked as UTF-8"):
        imported(tmp_path, {"upload.bin": raw_zip(b"gr\xf6\xdfe.png", flags=0x800)})
