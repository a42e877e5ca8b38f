from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.sandbox import frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_a_message_arrives_as_it_was_sent(message: dict[str, object]) -> None:
    data = frames.encode(message)
    header, payload = data[: frames.HEADER.size], data[frames.HEADER.size :]
    assert frames.payload_length(header) == len(payload)
    assert frames.decode(payload) == message


@given(st.binary(min_size=8, max_size=8))
def test_any_header_is_a_length_within_bounds_or_refused(header: bytes) -> None:
    with suppress(frames.FrameError):
        assert frames.payload_length(header) <= frames.MAX_PAYLOAD


def test_a_length_beyond_the_bound_is_refused() -> None:
    with pytest.raises(frames.FrameError):
        frames.payload_length(frames.HEADER.pack(frames.MAGIC, frames.MAX_PAYLOAD + 1))


@given(st.binary(max_size=100))
def test_any_payload_is_an_object_or_refused(payload: bytes) -> None:
    with suppress(frames.FrameError):
        assert isinstance(frames.decode(payload), dict)


def test_deep_nesting_is_refused_and_does_not_overflow() -> None:
    with pytest.raises(frames.FrameError):
        frames.decode(b"[" * 1_000_000)


def test_values_that_are_not_json_are_not_sent() -> None:
    with pytest.raises(TypeError):
        frames.encode({"a": object()})
