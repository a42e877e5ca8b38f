"""Reads a page like a browser: its references, ids and visible text."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}
_FETCHING = {"src", "srcset", "href", "action", "data", "poster", "background", "formaction", "xlink:href", "ping"}


class Document(HTMLParser):
    """A parsed page. `open` holds elements that were not closed; a well-formed page has none."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: Counter[str] = Counter()
        self.tags: Counter[str] = Counter()
        self.references: list[tuple[str, str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.style: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids[value or ""] += 1
            if name in _FETCHING:
                self.references.append((tag, name, value or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.style if self.open and self.open[-1] == "style" else self.text).append(data)

    @property
    def words(self) -> str:
        """The text that is seen, with blanks made one."""
        return " ".join(" ".join(self.text).split())


def require_self_contained(html: str) -> Document:
    """Check that a page fetches nothing, runs nothing, and is well formed."""
    document = Document(html)
    assert not document.open
    for tag, name, value in document.references:
        inner = value.startswith("#") and tag in {"a", "use"}
        assert inner or (tag == "img" and value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))), (
            tag,
            name,
            value[:80],
        )
        if inner:
            assert value[1:] in document.ids, value
    assert not {tag for tag in document.tags if tag in {"script", "iframe", "object", "embed", "form", "base", "link"}}
    assert not [entry for entry in document.attributes if entry[1].startswith("on")]
    assert not [name for name, count in document.ids.items() if count > 1]
    styles = "".join(document.style) + "".join(value for _, name, value in document.attributes if name == "style")
    assert "@import" not in styles
    assert "url(" not in styles
    return document
