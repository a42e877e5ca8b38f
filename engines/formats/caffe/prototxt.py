"""Reads the text of a net: layer by layer, each with its line, within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from engines.failures import EngineFailure
from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.failures import refused
from engines.formats.caffe.kinds import COMPUTED, INPUT
from engines.formats.caffe.upgrade import kind_of, upgraded
from engines.spec.sniff import sniff

MAX_BYTES = 4 * 2**20
"""Longest text. ResNet-152's has 100 KB."""
MAX_LAYERS = 20_000
"""Most layers of a net. ResNet-152 has 700."""
MAX_VALUES = 200_000
"""Most values of a net: protobuf takes some 50 microseconds for each."""
_MAX_DEPTH = 20
_TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>]|\blayers?\b""")
_POSITION = re.compile(r"^(\d+):\d+ : ")
_TOO_LARGE = (
    "Lathe reads nets of up to 20,000 layers, 200,000 values and 4 MiB of text. Weights belong in the .caffemodel."
)

_Written = TypeVar("_Written", bound=Message)


@dataclass(frozen=True)
class WrittenLayer:
    """A layer as the text has it, in today's form.

    Attributes:
        message: Its parameters.
        line: The line on which it begins, from 1.
    """

    message: messages.LayerParameter
    line: int


@dataclass(frozen=True)
class Prototxt:
    """The text of a net.

    Attributes:
        name: The file's name.
        head: What stands outside of layers: the name of the net, its inputs, its state.
        layers: The layers in the order of the text.
    """

    name: str
    head: messages.NetParameter
    layers: tuple[WrittenLayer, ...]


@dataclass(frozen=True)
class _Block:
    text: str
    line: int
    old: bool


def read_prototxt(path: Path) -> Prototxt:
    """Return the net of a prototxt, its layers upgraded from the forms of Caffe's first years.

    Raises:
        EngineFailure: INVALID_MODEL, with the line, for what is no text of a net, or more than any net.
    """
    text = _text(path)
    outside, blocks = _split(text, path.name)
    head = _parse(outside, messages.NetParameter(), path.name, 1, "the net")
    if head.layer or head.layers:
        raise refused(f"'{path.name}' lists its layers in brackets; write each as `layer {{ … }}`.")
    layers = upgraded([(_layer(block, path.name), block.line) for block in blocks])
    return Prototxt(path.name, head, tuple(WrittenLayer(message, line) for message, line in layers))


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise refused(f"'{path.name}' has {size:,} bytes of text, more than any net.", _TOO_LARGE)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(f"'{path.name}' is no text; it looks like {sniff(path)}.") from error
    if (values := text.count(":") + text.count(",")) > MAX_VALUES:
        raise refused(f"'{path.name}' has {values:,} values, more than any net.", _TOO_LARGE)
    return text


def _split(text: str, name: str) -> tuple[str, list[_Block]]:
    """Return the text outside of layers, its lines where they were, and the text inside each layer."""
    outside, blocks, last = [], [], 0
    for start, inside, end, line, old in _spans(text, name):
        blocks.append(_Block(text[inside : end - 1], line, old))
        outside += [text[last:start], "\n" * text.count("\n", start, end)]
        last = end
        if len(blocks) > MAX_LAYERS:
            raise refused(f"'{name}' has more than {MAX_LAYERS:,} layers.", _TOO_LARGE)
    return "".join([*outside, text[last:]]), blocks


def _spans(text: str, name: str) -> Iterator[tuple[int, int, int, int, bool]]:
    """Yield where each layer and its inside begin, where it ends, its line, and whether it is of an old form."""
    depth, counted, line = 0, 0, 1
    word: re.Match[str] | None = None  # `layer`, when nothing but a comment followed it yet
    opened: tuple[int, int, int, bool] | None = None
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in {"{", "<"}:
            if depth == 0 and word is not None:
                line, counted = line + text.count("\n", counted, word.start()), word.start()
                opened = word.start(), token.end(), line, word[0] == "layers"
            depth += 1
        elif sign in {"}", ">"}:
            depth -= 1
            if depth == 0 and opened is not None:
                start, inside, begun, old = opened
                yield start, inside, token.end(), begun, old
                opened = None
        if depth < 0 or depth > _MAX_DEPTH:
            at = text.count("\n", 0, token.start()) + 1
            what = "closes what nothing opened" if depth < 0 else "nests deeper than any net"
            raise refused(f"Line {at} of '{name}' {what}.", "Correct the text; its braces must match.")
        if sign[0] != "#":
            word = token if depth == 0 and sign.startswith("layer") else None
    if depth:
        at = opened[2] if opened else 1
        raise refused(f"'{name}' ends within what begins on line {at}.", "Upload the file whole: it was cut off.")


def _layer(block: _Block, name: str) -> messages.LayerParameter | messages.V1LayerParameter:
    """Return a layer; one that is not computed may have fields of any fork."""
    empty = messages.V1LayerParameter if block.old else messages.LayerParameter
    try:
        return _parse(block.text, empty(), name, block.line, "the layer")
    except EngineFailure:
        found = _parse(block.text, empty(), name, block.line, "the layer", lenient=True)
        if kind_of(found) in COMPUTED | {INPUT}:
            raise
        return found


def _parse(text: str, message: _Written, name: str, line: int, what: str, *, lenient: bool = False) -> _Written:
    try:
        text_format.Parse(text, message, allow_unknown_field=lenient)
    except (text_format.ParseError, RecursionError, UnicodeDecodeError) as error:
        found = _POSITION.match(str(error))
        at = line + (int(found[1]) - 1 if found else 0)
        said = _POSITION.sub("", str(error)).replace("lathe.engines.caffe.", "")
        raise refused(
            f"Line {at} of '{name}', in {what} that begins on line {line}, is no text of Caffe: {said[:300]}",
            "Upload the prototxt as Caffe reads it. Fields that only a fork of Caffe has are not read.",
        ) from error
    return message
