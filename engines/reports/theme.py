"""Colours of the pages, light and dark, and how charts refer to them.

Matplotlib only knows fixed colours. Charts are therefore drawn in one stand-in colour per role, and `svg.py` replaces
each by the style sheet's variable for that role, so that one chart suits light and dark pages and paper.
"""

from __future__ import annotations

from types import MappingProxyType

LIGHT = MappingProxyType(
    {
        "page": "#f4f6f9",
        "card": "#ffffff",
        "ink": "#1a2230",
        "muted": "#566173",
        "line": "#dfe4ec",
        "soft": "#eef2f8",
        "accent": "#2a5bd7",
        "on-accent": "#ffffff",
        "good": "#17704a",
        "bad": "#b42f26",
        "warn": "#8a5a00",
        "series-1": "#2a5bd7",
        "series-2": "#c2570c",
        "series-3": "#0f7f6e",
        "series-4": "#9333a8",
        "series-5": "#8a6a00",
        "series-6": "#c02668",
        "series-7": "#4b6178",
        "series-8": "#55721c",
    }
)
"""Colour of each role on a light background."""

DARK = MappingProxyType(
    {
        "page": "#10141b",
        "card": "#181e27",
        "ink": "#e5eaf2",
        "muted": "#9ba8ba",
        "line": "#2d3643",
        "soft": "#212936",
        "accent": "#83a9ff",
        "on-accent": "#0e1521",
        "good": "#5fcb9a",
        "bad": "#ff9187",
        "warn": "#e9bb62",
        "series-1": "#83a9ff",
        "series-2": "#f6a15c",
        "series-3": "#55cdb9",
        "series-4": "#d492e6",
        "series-5": "#e0c15a",
        "series-6": "#ff8fbb",
        "series-7": "#a3b5c9",
        "series-8": "#aacb6c",
    }
)
"""Colour of each role on a dark background."""

SERIES = tuple(role for role in LIGHT if role.startswith("series-"))
"""Roles of the curves of one chart, in order."""

_STAND_INS = {role: f"#0ace{number:02x}" for number, role in enumerate(LIGHT)}
VARIABLES = MappingProxyType({stand_in: f"var(--{role})" for role, stand_in in _STAND_INS.items()})
"""The style sheet's variable for each stand-in colour."""


def stand_in(role: str) -> str:
    """Return the colour in which charts draw this role."""
    return _STAND_INS[role]


def declarations(palette: MappingProxyType[str, str]) -> str:
    """Return a palette as declarations of CSS variables."""
    return " ".join(f"--{role}: {color};" for role, color in palette.items())
