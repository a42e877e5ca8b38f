"""Filters as Hypothesis makes them, and as they are written."""

from __future__ import annotations

from hypothesis import strategies as st

from services.resources.filters.syntax import All, Either, Node, Not, Restriction, Value

TEXTS = st.text(alphabet=st.characters(exclude_characters="\0"), max_size=6)
PATHS = st.lists(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), min_size=1, max_size=3).map(tuple)
VALUES = st.lists(TEXTS, min_size=1, max_size=3).map(lambda pieces: Value(tuple(pieces)))
RESTRICTIONS = st.builds(Restriction, PATHS, st.sampled_from(["=", "<", "<=", ">", ">=", ":"]), VALUES)


def trees(leaves: st.SearchStrategy[Restriction] = RESTRICTIONS) -> st.SearchStrategy[Node]:
    """Return filters of a few restrictions."""
    return st.recursive(leaves, _larger, max_leaves=6)


def _larger(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=3).map(tuple)
    return st.builds(Not, nodes) | st.builds(All, several) | st.builds(Either, several)


def printed(node: Node) -> str:
    """Return a filter as a user might write it."""
    if isinstance(node, Restriction):
        return f"{'.'.join(node.path)} {node.comparator} {_written(node.value)}"
    if isinstance(node, Not):
        return f"NOT ({printed(node.node)})"
    word = " AND " if isinstance(node, All) else " OR "
    return f"({word.join(f'({printed(each)})' for each in node.nodes)})"


def _written(value: Value) -> str:
    pieces = ("".join(f"\\{letter}" if letter in '\\"*' else letter for letter in piece) for piece in value.pieces)
    return f'"{"*".join(pieces)}"'
