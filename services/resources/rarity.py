"""How many rows a search can find at most, by what PostgreSQL knows of the grams in the index.

It counts them when it analyzes a table, as it does by itself. For several grams at once it takes them to be
independent, which letters are not; but no search finds more rows than its rarest gram has.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Protocol

from services.resources.search import ways_to_match

__all__ = ["Reader", "finds_few"]

FEW = 2000
"""So many rows the index finds faster than a walk through the next ones in order tells that they are not there."""

# After the frequencies of the most common elements come the least and the greatest of them, for no element: no other
# element has more than the least.
_ROWS = """
SELECT e.gram, e.frequency * c.reltuples AS rows
FROM pg_stats s JOIN pg_class c ON c.oid = to_regclass($1) CROSS JOIN LATERAL
    unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs) WITH ORDINALITY AS e (gram, frequency, place)
WHERE s.schemaname = current_schema() AND s.tablename = $1 AND s.attname = 'search_grams'
    AND (e.gram = ANY ($2) OR e.gram IS NULL)
ORDER BY e.place DESC
"""


class Reader(Protocol):
    """A `Database` or a connection."""

    async def fetch(self, query: str, *args: object) -> Any:
        """Return every row of a query."""


async def finds_few(reader: Reader, table: str, search: str, *, fuzzy: bool) -> bool:
    """Return whether a search surely finds few rows of a table, so that the index is to be asked at once.

    False if that is not known, as for a table that was never analyzed.
    """
    words = ways_to_match(search, fuzzy=fuzzy)
    asked = {gram for ways in words for grams in ways for gram in grams}
    counts: dict[str | None, float] = dict(await reader.fetch(_ROWS, table, sorted(asked)))
    if None not in counts:
        return False
    return min((_most(ways, counts) for ways in words), default=0.0) <= FEW


def _most(ways: Collection[Collection[str]], counts: dict[str | None, float]) -> float:
    """Return how many rows match a word at most."""
    return sum(min((counts.get(gram, counts[None]) for gram in grams), default=math.inf) for grams in ways)
