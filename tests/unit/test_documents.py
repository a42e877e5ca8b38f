"""The links and file names in the documents lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/README.md")]
TREES = ("deploy", "engines", "protos", "services", "tests")
FOUND = (f"/{path.relative_to(ROOT).as_posix()}" for tree in TREES for path in (ROOT / tree).rglob("*"))
FILES = {path for path in FOUND if "/." not in path}
LINK = re.compile(r"\]\(([\w./-]*)(?:#([\w-]+))?\)(?!:|\[)")
FILE = re.compile(r"`([\w./-]+\.(?:py|proto|yaml|md))`")


def anchors(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target, anchor in LINK.findall(re.sub(r"`[^`\n]+`", "", text)):
        file = document.parent / target if target else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"
    for name in FILE.findall(text):
        assert any(path.endswith(f"/{name}") for path in FILES), name
