from __future__ import annotations

import io
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lathe.type.v1.digest_pb2 import Digest

from services.storage.hashing import BLOCK_BYTES, Cancelled, hash_bytes, hash_stream
from services.storage.parts import LARGEST_FILE, MAX_PARTS, MEBIBYTE, spans
from services.storage.s3_store import content_key


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
    assert hash_stream(io.BytesIO(data), copy.write) == hash_bytes(data)
    assert copy.getvalue() == data


def test_hashing_stops_when_asked() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        hash_stream(io.BytesIO(b"x"), stop=stop)


def test_keys_never_lie_beneath_one_another() -> None:
    digest = Digest(sha256="ab" + "0" * 62, size_bytes=1)
    assert content_key(digest) == "cas/sha256/ab/ab" + "0" * 62
