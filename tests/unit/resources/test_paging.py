from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.platform.errors import LatheError
from services.resources.paging import MAX_PAGE_SIZE, Position, decode_token, encode_token, page_size

TIMES = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC))
QUERIES = st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.lists(st.integers(), max_size=3), max_size=4)


VALUES = st.tuples(TIMES, st.text(max_size=30), st.integers(), st.uuids())


@given(VALUES, st.booleans(), QUERIES)
def test_a_token_leads_back_to_its_position(values: tuple[object, ...], fuzzy: bool, query: dict[str, object]) -> None:
    position = Position(values, fuzzy)
    assert decode_token(encode_token(position, query), query, (datetime, str, int, UUID)) == position


@given(QUERIES, QUERIES)
def test_a_token_belongs_to_its_query(one: dict[str, object], other: dict[str, object]) -> None:
    token = encode_token(Position(("a",)), one)
    if one != other:
        with pytest.raises(LatheError, match="does not belong to this query"):
            decode_token(token, other, (str,))


@given(st.text(max_size=200) | st.binary(max_size=80).map(lambda raw: raw.hex()))
def test_an_invented_token_is_refused(token: str) -> None:
    with pytest.raises(LatheError) as caught:
        decode_token(token, {}, (str, UUID))
    assert caught.value.fields[0][0] == "page_token"


@given(st.data())
def test_a_changed_token_is_refused(data: st.DataObject) -> None:
    token = encode_token(Position((datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7))), ["q"])
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCabc019-_=! é"))
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(LatheError):
            decode_token(changed, ["q"], (datetime, UUID))


@pytest.mark.parametrize(
    ("values", "types"),
    [(("a",), (str, str)), (("a",), (UUID,)), ((1,), (str,)), (("x",), (datetime,)), ((10**30,), (datetime,))],
)
def test_a_token_of_other_types_is_refused(values: tuple[object, ...], types: tuple[type, ...]) -> None:
    with pytest.raises(LatheError):
        decode_token(encode_token(Position(values), {}), {}, types)


def test_a_token_is_safe_in_a_url() -> None:
    token = encode_token(Position(("ÿ" * 50, "?&/+")), {})
    assert token.isascii()
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(("asked", "given_size"), [(0, 50), (1, 1), (999, 999), (MAX_PAGE_SIZE + 1, MAX_PAGE_SIZE)])
def test_page_sizes_are_coerced(asked: int, given_size: int) -> None:
    assert page_size(asked) == given_size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(LatheError, match="-1 is negative") as caught:
        page_size(-1)
    assert caught.value.fields[0][0] == "page_size"
