"""Resource ids made from names for people."""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["slug"]

# Leaves room for `-` and a number within the 100 characters of an id.
LONGEST_SLUG = 90
NOT_ALLOWED = re.compile(r"[^a-z0-9._-]+")


def slug(display_name: str) -> str:
    """Return an id for a name: `ResNet-50 (größe 2)` → `resnet-50-grosse-2`.

    Letters lose case and accents; what has no form in `a-z 0-9 . _ -` becomes `-`. A name of which nothing is left, for
    example one in Chinese alone, gives `x-` and eight digits of its hash. Always matches
    `^[a-z0-9]([a-z0-9._-]{0,88}[a-z0-9])?$`; the same name always gives the same id.
    """
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", display_name).casefold())
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    dashed = re.sub(r"-{2,}", "-", NOT_ALLOWED.sub("-", plain))
    trimmed = dashed.strip("._-")[:LONGEST_SLUG].rstrip("._-")
    return trimmed or "x-" + hashlib.sha256(display_name.encode()).hexdigest()[:8]
