from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lathe.type.v1.digest_pb2 import Digest

from services.storage.hashing import (
    BLOCK_BYTES,
    Cancelled,
    WrongBytes,
    ahead,
    blocks_of,
    checked,
    hash_blocks,
    hash_bytes,
)
from services.storage.keys import content_key
from services.storage.parts import LARGEST_FILE, MAX_PARTS, MEBIBYTE, spans


@given(st.integers(0, LARGEST_FILE) | st.integers(0, 200 * MEBIBYTE))
def test_parts_cover_the_file_within_the_limits_of_s3(size: int) -> None:
    cut = spans(size)
    assert sum(span.size for span in cut) == size
    assert len(cut) <= MAX_PARTS
    assert [span.number for span in cut] == list(range(1, len(cut) + 1))
    assert all(before.offset + before.size == after.offset for before, after in pairwise(cut))
    assert all(5 * MEBIBYTE <= span.size <= 5 << 30 for span in cut[:-1])
    assert all(0 < span.size <= 5 << 30 for span in cut)


@pytest.mark.parametrize("size", [-1, LARGEST_FILE + 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="5 TiB"):
        spans(size)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 7])
def test_a_stream_is_hashed_block_by_block(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    copy = io.BytesIO()
    assert hash_blocks(ahead(blocks_of(io.BytesIO(data))), copy.write) == hash_bytes(data)
    assert copy.getvalue() == data


def test_hashing_stops_when_asked() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        hash_blocks([b"x"], stop=stop)


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9), st.binary(max_size=9))
def test_a_stream_of_other_bytes_never_reaches_its_size(blocks: list[bytes], other: bytes) -> None:
    data = b"".join(blocks)
    assert b"".join(checked(blocks, hash_bytes(data))) == data
    for digest in (hash_bytes(other), Digest(sha256=hash_bytes(other).sha256, size_bytes=len(data))):
        if digest == hash_bytes(data):
            continue
        passed: list[bytes] = []
        with pytest.raises(WrongBytes):
            passed.extend(checked(blocks, digest))
        assert len(b"".join(passed)) < max(digest.size_bytes, 1)


def test_reading_ahead_passes_errors_on_and_ends_with_its_reader() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise OSError("gone")

    reading = ahead(broken())
    assert next(reading) == b"x"
    with pytest.raises(OSError, match="gone"):
        next(reading)
    endless = ahead(iter(lambda: b"x", b""))
    next(endless)
    before = threading.active_count()
    endless.close()  # type: ignore[attr-defined]
    assert threading.active_count() < before


def test_keys_never_lie_beneath_one_another() -> None:
    digest = Digest(sha256="ab" + "0" * 62, size_bytes=1)
    assert content_key(digest) == "cas/sha256/ab/ab" + "0" * 62
