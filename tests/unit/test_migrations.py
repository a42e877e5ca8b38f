"""The migrations of each service: one line, in the order of their numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services"
FOLDERS = sorted(path.parent for path in SERVICES.glob("*/migrations/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_each_migration_follows_the_one_before(folder: Path) -> None:
    before = "None"
    for path in sorted(folder.glob("0*.py")):
        text = path.read_text()
        number = path.name.partition("_")[0]
        assert re.search(r"^revision = (.+)$", text, re.MULTILINE)[1] == f'"{number}"', path  # type: ignore[index]
        assert re.search(r"^down_revision = (.+)$", text, re.MULTILINE)[1] == before, path  # type: ignore[index]
        before = f'"{number}"'
