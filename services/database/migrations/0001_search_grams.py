"""The function that cuts a search text into grams, for generated columns with a GIN index.

`services/resources/search.py` holds the same function in Python, and a test compares the two.
"""

from services.database.migration import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create `lathe.grams(text) → text[]`."""
    execute(
        # Two- and three-letter pieces inside each word, and single letters outside ASCII, where one letter is a word.
        """
        CREATE FUNCTION lathe.grams(value text) RETURNS text[]
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN ARRAY(
            SELECT DISTINCT substr(value, start, size) COLLATE "C" AS gram
            FROM generate_series(1, length(value)) AS start, generate_series(1, 3) AS size
            WHERE start + size - 1 <= length(value)
              AND strpos(substr(value, start, size), ' ') = 0
              AND (size > 1 OR ascii(substr(value, start, 1)) > 127)
            ORDER BY gram
        )
        """,
    )
