from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.resources.slugs import slug

PATTERN = re.compile(r"[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ResNet-50", "resnet-50"),
        ("My  model (v1.2)", "my-model-v1.2"),
        ("Größe", "grosse"),
        ("Éclair_2", "eclair_2"),
        ("../../etc/passwd", "etc-passwd"),
        ("模型 v2", "v2"),
        ("---a---", "a"),
    ],
)
def test_slugs_are_readable(name: str, expected: str) -> None:
    assert slug(name) == expected


@given(st.text(max_size=300))
def test_every_name_gives_a_valid_id_with_room_for_a_number(name: str) -> None:
    made = slug(name)
    assert PATTERN.fullmatch(made)
    assert len(made) <= 90
    assert slug(name) == made


def test_names_without_latin_letters_differ() -> None:
    assert slug("模型") != slug("数据")
    assert slug("模型").startswith("x-")
