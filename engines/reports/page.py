"""Pages: blocks of content, rendered as one self-contained HTML file.

A page loads nothing and runs no script; its Content-Security-Policy forbids both. All text is untrusted and escaped by
Jinja2; only charts from `svg.py` are inserted as they are.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from engines.reports.text import clean
from engines.reports.theme import DARK, LIGHT, declarations

Tone = Literal["", "good", "bad", "warn", "muted"]

_TEMPLATES = Path(__file__).parent / "templates"
_PNG = b"\x89PNG\r\n\x1a\n"
TOTAL_BYTES = 2 << 20
"""Most bytes of pictures on a page, as base64."""
_LONGEST_SIDE = 360
_QUALITY = 78
_MOST_PIXELS = 4_000_000


@dataclass(frozen=True)
class Tile:
    """One figure of the header."""

    label: str
    value: str
    detail: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table with a tone, or with a small line below its text."""

    text: str
    tone: Tone = ""
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a caption. Columns in `text_columns` are aligned left; the others are numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    text_columns: frozenset[int] = frozenset({0})
    note: str = ""
    wide: bool = False
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Chart:
    """A chart with its caption."""

    svg: Markup
    caption: str
    note: str = ""
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and a value; in several columns if wide."""

    caption: str
    pairs: Sequence[tuple[str, str]]
    wide: bool = False
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True)
class Notes:
    """Sentences in a tone, each a paragraph."""

    sentences: Sequence[str]
    tone: Tone = ""
    kind: Literal["notes"] = "notes"
    wide: bool = True


@dataclass(frozen=True)
class Picture:
    """A sample: its PNG as base64 (empty if it has none), its name, and lines of text with their tones."""

    png: str
    name: str
    lines: Sequence[Cell]


@dataclass(frozen=True)
class Gallery:
    """Samples as a grid."""

    caption: str
    pictures: Sequence[Picture]
    note: str = ""
    kind: Literal["gallery"] = "gallery"
    wide: bool = True


Block = Table | Chart | Facts | Notes | Gallery


@dataclass(frozen=True)
class Section:
    """Blocks under a heading, side by side if there is room."""

    title: str
    blocks: Sequence[Block]
    intro: str = ""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        kind: The kind of report, for example `Evaluation`.
        title: The subject.
        subtitle: The circumstances in one line.
        verdict: The finding in a sentence or two.
        tone: Tone of the verdict.
        tiles: The most important figures.
        sections: Everything else.
        small_print: Paragraphs about how it was measured.
    """

    kind: str
    title: str
    subtitle: str
    verdict: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    tone: Tone = ""
    small_print: Sequence[str] = field(default_factory=tuple)


def render(page: Page) -> str:
    """Return a page as one HTML file; equal pages give equal text."""
    return str(_environment().get_template("page.html").render(page=page))


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    colored = style.replace("/*light*/", declarations(LIGHT)).replace("/*dark*/", declarations(DARK))
    environment.globals["style"] = Markup(colored)  # noqa: S704  # our own file
    environment.filters["pictures"] = _with_uris
    return environment


def _finalize(value: Any) -> Any:
    return clean(value) if type(value) is str else value


def _with_uris(pictures: Sequence[Picture]) -> list[tuple[Picture, str]]:
    return list(zip(pictures, data_uris([picture.png for picture in pictures]), strict=True))


def data_uris(pictures: Sequence[str], total: int = TOTAL_BYTES) -> list[str]:
    """Return a `data:` URI for each PNG in base64; empty if it is not a PNG or does not fit.

    A picture that exceeds its share of the total is stored as a smaller JPEG.
    """
    present = sum(1 for picture in pictures if picture)
    share = total // max(1, present)
    return [_uri(picture, share) if picture else "" for picture in pictures]


def _uri(picture: str, share: int) -> str:
    try:
        content = base64.b64decode(picture, validate=True)
    except (binascii.Error, ValueError):
        return ""
    if not content.startswith(_PNG):
        return ""
    if len(picture) <= share:
        return f"data:image/png;base64,{picture}"
    smaller = base64.b64encode(_smaller(content)).decode()
    return f"data:image/jpeg;base64,{smaller}" if smaller and len(smaller) <= share else ""


def _smaller(content: bytes) -> bytes:
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if image.width * image.height > _MOST_PIXELS:
                return b""
            small = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombWarning):
        return b""
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    stored = io.BytesIO()
    small.save(stored, "JPEG", quality=_QUALITY)
    return stored.getvalue()
