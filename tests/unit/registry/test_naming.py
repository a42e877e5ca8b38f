"""Identifiers made from words keep the promise of the API's pattern."""

import re

from hypothesis import given
from hypothesis import strategies as st
from lathe.registry.v1.model_service_pb2 import PackageInfo

from services.registry import naming

IDENTIFIER = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$")


@given(st.text(max_size=300))
def test_a_slug_is_a_valid_identifier_or_empty(words: str) -> None:
    identifier = naming.slug(words)
    assert identifier == "" or IDENTIFIER.fullmatch(identifier)


@given(st.text(max_size=300), st.text("0123456789abcdef", min_size=6, max_size=6))
def test_an_alternative_is_a_valid_identifier(words: str, salt: str) -> None:
    assert IDENTIFIER.fullmatch(naming.alternative(naming.slug(words), "model", salt))


def test_a_slug_keeps_what_can_be_read() -> None:
    assert naming.slug("ResNet-50 (Größe 224)") == "resnet-50-groe-224"
    assert naming.slug("数字") == ""
    assert naming.alternative("", "model", "0a1b2c") == "model-0a1b2c"


def test_the_file_name_of_a_package_is_made_of_its_fields() -> None:
    package = PackageInfo(repo="vision", package_name="digits", method="classify", version="1.2.0")
    assert naming.package_file_name(package) == "vision_digits_classify_1.2.0.tar"


def test_kinds_and_parents_are_read_from_names() -> None:
    assert naming.model_of("models/a/versions/3") == "models/a"
    assert naming.version_name("models/a", 3) == "models/a/versions/3"
    names = ["models/a/versions/3", "architectures/b", "templates/c", "conversionTasks/d", "quantizationTasks/e"]
    assert [naming.node_kind(name) for name in names] == ["model_version", "architecture", "template", "task", "task"]
