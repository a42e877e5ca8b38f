"""Reads a filter (https://google.aip.dev/160) into a tree: `state = RUNNING AND -labels.team:* AND number > 3`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, TypeAlias

from lark import Lark, Token, Transformer, UnexpectedInput, v_args

from services.platform.errors import LatheError, invalid_argument

__all__ = ["MAX_DEPTH", "MAX_RESTRICTIONS", "All", "Either", "Node", "Not", "Restriction", "Value", "parse", "wrong"]

MAX_DEPTH = 20
"""Parentheses in parentheses."""
MAX_RESTRICTIONS = 100
"""Restrictions of one filter."""

# Grammar of AIP-160, without functions. OR binds tighter than AND; AND may be left out. LALR, so that no input takes
# more than linear time. Keywords need a blank or a parenthesis after them, so that `ANDROID` is a word.
GRAMMAR = r"""
start: expression?
expression: sequence (_AND sequence)*
sequence: factor+
factor: term (_OR term)*
?term: simple | NEGATION simple -> negated
?simple: restriction | "(" expression ")"
restriction: member [COMPARATOR argument]
?argument: member | "(" expression ")"
member: _value ("." _value)*
_value: TEXT | STRING | NUMBER | TIME

COMPARATOR: /<=|>=|!=|<|>|=|:/
_AND.3: /AND(?=[\s(])/
_OR.3: /OR(?=[\s(])/
NEGATION.3: /NOT(?=[\s(])|-/
TIME.2: /\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(:\d\d([.]\d+)?)?([Zz]|[+-]\d\d:\d\d)?(?=[\s()]|$)/
NUMBER.2: /-?\d+([.]\d+)?([eE][+-]?\d+)?(?=[\s()<>=!:]|$)/
STRING: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/s
TEXT: /[^\s().,"'<>=!:\\\-][^\s().,"'<>=!:\\]*/
%ignore /\s+/
"""
_STRINGS = re.compile(r""""(\\.|[^"\\])*"|'(\\.|[^'\\])*'""", re.DOTALL)
_JOINS = ("AND", "OR", "NOT")
_ESCAPES = re.compile(r"\\(.)|(\*)", re.DOTALL)


@dataclass(frozen=True)
class Value:
    """What a field is compared with: the texts between the wildcards `*`, so one text if there is none."""

    pieces: tuple[str, ...]
    position: int = field(default=0, compare=False)

    @property
    def text(self) -> str:
        """The value as it was meant, with its wildcards."""
        return "*".join(self.pieces)


@dataclass(frozen=True)
class Restriction:
    """A field, by its path, compared with a value."""

    path: tuple[str, ...]
    comparator: str
    value: Value
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Not:
    """What does not match."""

    node: Node


@dataclass(frozen=True)
class All:
    """What matches everything; with no nodes, that is all there is."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Either:
    """What matches one of several."""

    nodes: tuple[Node, ...]


Node: TypeAlias = Restriction | Not | All | Either


@dataclass(frozen=True)
class _Bare:
    """A value alone: right only inside the parentheses of `field = (a OR b)`."""

    parts: tuple[Token, ...]


@lru_cache(256)
def parse(text: str) -> Node:
    """Return the tree of a filter; `All(())` for an empty one.

    Raises:
        LatheError: INVALID_ARGUMENT for the field `filter`, with the position of what is wrong.
    """
    if "\0" in text:
        raise wrong(text.index("\0"), "a NUL character. Remove it")
    _refuse_deep(text)
    try:
        tree: Any = _parser().parse(text)
    except UnexpectedInput as error:
        early = getattr(error, "token", None) is not None and error.token.type == "$END"  # type: ignore[attr-defined]
        at = len(text) if early else error.pos_in_stream or 0
        what = "the filter ends too early" if early else f"'{text[at:].split(maxsplit=1)[0][:40]}' does not belong here"
        how = "Write restrictions such as `owner = ada`, joined by AND, OR, NOT and parentheses"
        raise wrong(at, f"{what}. {how}") from None
    restrictions = sum(1 for _ in _restrictions(tree))
    if restrictions > MAX_RESTRICTIONS:
        raise wrong(0, f"{restrictions} restrictions, and {MAX_RESTRICTIONS} are allowed. Ask with several lists")
    return tree  # type: ignore[no-any-return]


def wrong(position: int, what: str) -> LatheError:
    """Return the error for a filter; `position` counts from 0."""
    return invalid_argument("filter", f"At character {position + 1}: {what}.", reason="INVALID_FILTER")


@v_args(inline=True)
class _Builder(Transformer[Token, Any]):
    """Builds the tree while the text is read, from the leaves up."""

    def start(self, expression: Any = None) -> Node:
        return All(()) if expression is None else _meant(expression)

    def expression(self, *nodes: Any) -> Any:
        return nodes[0] if len(nodes) == 1 else All(nodes)

    sequence = expression

    def factor(self, *nodes: Any) -> Any:
        return nodes[0] if len(nodes) == 1 else Either(nodes)

    def negated(self, _sign: Token, node: Any) -> Not:
        return Not(node)

    def member(self, *parts: Token) -> _Bare:
        return _Bare(parts)

    def restriction(self, member: _Bare, comparator: Token | None = None, argument: Any = None) -> Any:
        if comparator is None:
            return member
        if comparator == "!=":
            return Not(_compared(member, "=", argument))
        return _compared(member, str(comparator), argument)


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", transformer=_Builder(), maybe_placeholders=True)


def _compared(member: _Bare, comparator: str, argument: Any) -> Node:
    """Return a comparison; `a = (b OR c)` is `a = b OR a = c`."""
    if isinstance(argument, _Bare):
        path = tuple(_value(part).text for part in member.parts)
        return Restriction(path, comparator, _joined(argument), member.parts[0].start_pos or 0)
    if isinstance(argument, Not):
        return Not(_compared(member, comparator, argument.node))
    if isinstance(argument, All | Either):
        return type(argument)(tuple(_compared(member, comparator, node) for node in argument.nodes))
    raise wrong(argument.position, "a comparison inside the value of another. Put values alone into the parentheses")


def _meant(node: Any) -> Node:
    """Return the tree; a value that is compared with nothing is refused."""
    if isinstance(node, _Bare):
        value = _joined(node)
        raise wrong(value.position, _complaint(value.text))
    if isinstance(node, Not):
        return Not(_meant(node.node))
    if isinstance(node, All | Either):
        return type(node)(tuple(_meant(each) for each in node.nodes))
    return node  # type: ignore[no-any-return]


def _complaint(word: str) -> str:
    """Return what is wrong with a value that is compared with nothing."""
    if word in _JOINS:
        return f"'{word}' joins two comparisons, and one of them is missing"
    if word.upper() in _JOINS:
        return f"'{word}' is compared with nothing. Write {word.upper()} in capitals to join comparisons"
    return f"'{word[:40]}' is compared with nothing. Write `field = value`; `search` finds words, if the list has it"


def _joined(bare: _Bare) -> Value:
    """Return a value that may hold dots, such as `ada@example.com`."""
    pieces = [""]
    for number, part in enumerate(bare.parts):
        first, *rest = _value(part).pieces
        pieces[-1] += f".{first}" if number else first
        pieces += rest
    return Value(tuple(pieces), bare.parts[0].start_pos or 0)


def _value(token: Token) -> Value:
    if token.type != "STRING":
        return Value(tuple(token.split("*")), token.start_pos or 0)
    # A wildcard becomes a NUL, which no filter holds; a character after a backslash stands for itself.
    text = _ESCAPES.sub(lambda found: "\0" if found[2] else found[1], token[1:-1])
    return Value(tuple(text.split("\0")), token.start_pos or 0)


def _refuse_deep(text: str) -> None:
    depth = 0
    # Strings keep their length, so that positions stay.
    for position, character in enumerate(_STRINGS.sub(lambda found: "_" * len(found[0]), text)):
        depth += (character == "(") - (character == ")")
        if depth > MAX_DEPTH:
            raise wrong(position, f"more than {MAX_DEPTH} parentheses in one another")


def _restrictions(node: Node) -> Iterator[Restriction]:
    if isinstance(node, Restriction):
        yield node
    elif isinstance(node, Not):
        yield from _restrictions(node.node)
    else:
        for each in node.nodes:
            yield from _restrictions(each)
