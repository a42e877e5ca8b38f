from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.resources.conditions import Conditions
from services.resources.search import (
    SHORTEST_FUZZY_WORD,
    add_search,
    grams,
    index_pieces,
    one_slip_patterns,
    punctuation,
    search_text,
    squash,
    ways_to_match,
    words,
)

LETTERS = st.text(alphabet="abcdefg0123é猫", min_size=4, max_size=14)


@pytest.mark.parametrize(
    ("text", "squashed"),
    [
        ("ResNet-50", "resnet50"),
        ("  Größe_2.v1 ", "grosse2v1"),
        ("ÉCLAIR", "eclair"),
        ("模型 Ⅳ", "模型iv"),
        ("ﬁne-tuned²", "finetuned2"),
        ("--- !", ""),
        ("👩\u200d🔬 bot🙂!", "👩🔬bot🙂"),
        ("C++ → ≈", "c→≈"),
        ("東京 タワー", "東京タワー"),
    ],
)
def test_squash_keeps_letters_digits_and_symbols_alone(text: str, squashed: str) -> None:
    assert squash(text) == squashed


@given(st.text())
def test_squash_is_stable_and_plain(text: str) -> None:
    once = squash(text)
    assert squash(once) == once
    assert not set(once) & set(" %_\\\0'")
    assert squash(text.upper()) == squash(text.upper().lower())


@given(st.lists(st.text(max_size=12), max_size=4))
def test_every_value_is_found_in_the_search_text(values: list[str]) -> None:
    text = search_text(values)
    assert all(squash(value) in text for value in values)


def test_a_value_within_another_is_stored_once() -> None:
    assert search_text(["resnet-50", "ResNet 50", "ResNet-50 v2"]) == "resnet50v2 -"


@given(st.text(max_size=200))
def test_words_are_squashed_and_never_empty(text: str) -> None:
    found = words(text)
    assert all(found)
    assert all(word == squash(word) for word in found) or found == punctuation(text)


def test_grams_stay_within_words() -> None:
    assert grams("abc de") == ["ab", "abc", "bc", "de"]
    assert grams("猫a") == ["猫", "猫a"]
    assert grams("a") == []


@given(LETTERS)
def test_a_substring_has_a_subset_of_the_grams(text: str) -> None:
    assert set(grams(text[1:-1])) <= set(grams(text))


def _like(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern.replace("%", ".*").replace("_", "."), text, re.DOTALL) is not None


@given(LETTERS, st.data(), st.text(alphabet="xyz", max_size=3))
def test_every_single_slip_is_forgiven(word: str, data: st.DataObject, around: str) -> None:
    at = data.draw(st.integers(0, len(word) - 1))
    slips = [word[:at] + "z" + word[at + 1 :], word[:at] + word[at + 1 :], word[:at] + "z" + word[at:]]
    if at:
        slips.append(word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :])
    typed = data.draw(st.sampled_from(slips))
    assert any(_like(pattern, around + word + around) for pattern in one_slip_patterns(typed))
    (ways,) = ways_to_match(typed, fuzzy=True)
    if len(typed) >= SHORTEST_FUZZY_WORD:
        there = set(grams(squash(around + word + around)))
        assert any(there.issuperset(way) for way in ways), "what is found has all grams of a way"
    middle = len(typed) // 2
    swapped = typed[: middle - 1] + typed[middle] + typed[middle - 1] + typed[middle + 1 :]
    found = set(grams(word))
    # What the index is asked for never hides a text that the patterns would accept.
    assert any(set(grams(piece)) <= found for piece in (typed[:middle], typed[middle:], swapped))


@given(LETTERS.filter(lambda text: " " not in text))
def test_the_index_is_asked_for_grams_only(text: str) -> None:
    assert set(index_pieces(text)) <= set(grams(text))
    assert index_pieces(text), "every text of this length has one"


@pytest.mark.parametrize(("text", "pieces"), [("a", []), ("猫", ["猫"]), ("ab", ["ab"]), ("abcd", ["abc", "bcd"])])
def test_the_index_is_asked_for_as_few_grams_as_possible(text: str, pieces: list[str]) -> None:
    assert index_pieces(text) == pieces


@given(st.text(max_size=60), st.booleans(), st.booleans())
def test_what_was_typed_travels_as_parameters(search: str, fuzzy: bool, indexed: bool) -> None:
    conditions = Conditions()
    add_search(conditions, search, fuzzy=fuzzy, indexed=indexed)
    assert conditions.where.isascii()
    assert "'" not in conditions.where
    numbers = {int(number) for number in re.findall(r"\$(\d+)", conditions.where)}
    assert numbers == set(range(1, len(conditions.args) + 1))


def test_what_nobody_sees_finds_nothing() -> None:
    conditions = Conditions()
    add_search(conditions, "\u200b \u0301", fuzzy=False, indexed=True)
    assert conditions.where == " WHERE FALSE"


@given(st.text(max_size=20))
def test_whatever_can_be_seen_in_a_name_is_found(name: str) -> None:
    text = search_text([name])
    assert all(word in text for word in words(name))
    seen = [c for c in name if unicodedata.category(unicodedata.normalize("NFKD", c)[0])[0] in "LNPS"]
    assert all(words(c) for c in seen)


def test_punctuation_is_asked_for_if_there_is_nothing_else() -> None:
    assert words("C ++") == ["c"]
    assert words(" -- %_%") == ["--", "%_%"]
    conditions = Conditions()
    add_search(conditions, "%_%_%", fuzzy=True, indexed=True)
    assert "LIKE" not in conditions.where
