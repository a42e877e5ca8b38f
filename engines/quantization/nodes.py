"""Names of nodes: every node gets one, and names that users give are looked up."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from engines.failures import EngineFailure, FailureReason


def name_nodes(model: Any) -> None:
    """Give a unique name to every node of the main graph that has none, or shares one."""
    taken: set[str] = set()
    for position, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{position}"
        while name in taken:
            name = f"{name}_{position}"
        node.name = name
        taken.add(name)


def check_excluded(excluded: Iterable[str], names: Collection[str]) -> None:
    """Refuse names that no node has.

    Raises:
        EngineFailure: INVALID_SPEC with the name and those that come close.
    """
    for name in excluded:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
            near = f"Close to it are {', '.join(close)}." if close else "None comes close to it."
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"The graph has no node '{name}' to keep in floating point. {near}",
                node=name,
                suggested_fix="Take names from the report of an earlier quantization of this model, which lists them.",
            )
