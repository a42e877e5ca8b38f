"""The processes that this one has started, for tests that hold that none is left."""

from __future__ import annotations

import psutil


def children() -> set[int]:
    """Return the ids of the direct children.

    Not of theirs: servers that other tests of this process share start and end processes of their own at any time.
    """
    return {child.pid for child in psutil.Process().children()}
