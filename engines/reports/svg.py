"""Turns a Matplotlib figure into an inline SVG in the style of the page.

The drawing uses the page's fonts and colours, has no parts that affect the rest of the page (a style sheet, shared ids,
links), and is the same bytes for the same values.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree  # parses only our own drawings, never a user's file

from markupsafe import Markup

from engines.reports.text import clean
from engines.reports.theme import SERIES, VARIABLES, stand_in

WIDTH = 400
"""Width of a chart in its own units; the page scales it."""
FONT_SIZE = 12
_POINTS_PER_INCH = 72
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_COLOR = re.compile(r"#[0-9a-f]{6}")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DROPPED = ("metadata", "style")

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's font
    "svg.hashsalt": "lathe",  # gives the same ids in every run
    "text.parse_math": False,  # a class named "$x" is not a formula
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "legend.fontsize": FONT_SIZE - 1,
    "legend.frameon": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.linewidth": 0.8,
}


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Any]:
    """Yield a Figure of `width` × `height` chart units in the page's style; draw and call `inline` inside."""
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    style: Any = {
        **mpl.rcParamsDefault,
        **_SETTINGS,
        "text.color": stand_in("ink"),
        "axes.labelcolor": stand_in("muted"),
        "axes.edgecolor": stand_in("line"),
        "xtick.color": stand_in("muted"),
        "ytick.color": stand_in("muted"),
        "grid.color": stand_in("line"),
        "axes.prop_cycle": cycler(color=[stand_in(role) for role in SERIES]),
    }
    # The style of this figure must not depend on the caller's settings.
    with mpl.rc_context(style), warnings.catch_warnings():
        # The reader's browser draws glyphs that Matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")


def inline(figure: Any, key: str, label: str, tips: Mapping[str, str] | None = None) -> Markup:
    """Return a figure as an `<svg>` element to insert into a page.

    Args:
        figure: The Figure from `canvas`.
        key: Identifier of the chart, unique in the page: letters, digits and hyphens.
        label: Description of the chart for those who cannot see it.
        tips: Tooltips by the gid of the artist.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(clean(text.get_text()))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314  # drawn a line above
    _strip(root)
    _add_tips(root, tips or {})
    _isolate(root, key)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib.clear()
    root.attrib.update(
        {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": clean(label), "class": "chart"}
    )
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704  # ElementTree has escaped all text


def _strip(parent: ElementTree.Element) -> None:
    for child in list(parent):
        if child.tag.rpartition("}")[2] in _DROPPED:
            parent.remove(child)
            continue
        child.tail = None
        if not (child.text or "").strip():
            child.text = None
        _strip(child)


def _add_tips(root: ElementTree.Element, tips: Mapping[str, str]) -> None:
    for element in list(root.iter()):
        tip = tips.get(element.get("id", ""))
        if tip:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = clean(tip)
            element.insert(0, title)


def _isolate(root: ElementTree.Element, key: str) -> None:
    """Keep only ids that are referred to, with the chart's prefix, and replace colours and fonts by the page's."""
    elements = list(root.iter())
    used = {element.attrib[_LINK].removeprefix("#") for element in elements if _LINK in element.attrib}
    for element in elements:
        used.update(match for value in element.attrib.values() for match in _REFERENCE.findall(value))
    for element in elements:
        attributes = dict(element.attrib)
        element.attrib.clear()
        for name, value in attributes.items():
            if name == "id":
                if value in used:
                    element.set("id", f"{key}-{value}")
            elif name == _LINK:
                element.set("href", f"#{key}-{value.removeprefix('#')}")
            elif name == "style":
                element.set("style", _themed(value))
            elif name == "d":
                element.set("d", " ".join(value.split()))
            else:
                element.set(name, _REFERENCE.sub(rf"url(#{key}-\1)", value))


def _themed(style: str) -> str:
    colored = _COLOR.sub(lambda match: VARIABLES.get(match.group(), "currentColor"), style)
    return _FONT_FAMILY.sub("", colored)
