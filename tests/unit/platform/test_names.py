"""The rules of names and paths: one for each, wherever a request holds a name or a path."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from lathe._options import validate_pb2
from lathe.converter.v1 import conversion_service_pb2
from lathe.evaluator.v1 import evaluation_service_pb2
from lathe.optimizer.v1 import optimization_service_pb2, profile_service_pb2
from lathe.quantizer.v1 import quantization_service_pb2
from lathe.registry.v1 import (
    alias_service_pb2,
    architecture_service_pb2,
    artifact_service_pb2,
    dataset_service_pb2,
    device_service_pb2,
    model_service_pb2,
    release_service_pb2,
)
from lathe.template.v1 import template_service_pb2
from lathe.type.v1.digest_pb2 import Digest, File

from services.platform.errors import LatheError
from services.platform.interceptors.patterns import wanted
from services.platform.interceptors.validation import check

FILES: list[Any] = [
    *(
        alias_service_pb2,
        architecture_service_pb2,
        artifact_service_pb2,
        dataset_service_pb2,
        device_service_pb2,
        model_service_pb2,
        release_service_pb2,
    ),
    *(conversion_service_pb2, evaluation_service_pb2, optimization_service_pb2, quantization_service_pb2),
    profile_service_pb2,
    template_service_pb2,
]
JOINERS = "\u200c\u200d"


def fields_of_requests() -> Iterator[FieldDescriptor]:
    """Yield every field that a request of any method can hold."""
    seen: set[str] = set()

    def walk(message: Descriptor) -> Iterator[FieldDescriptor]:
        if message.full_name in seen:
            return
        seen.add(message.full_name)
        for field in message.fields:
            yield field
            if field.message_type is not None:
                yield from walk(field.message_type)

    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield from walk(method.input_type)


def pattern_of(field: FieldDescriptor) -> str:
    """Return the pattern that the texts of a field, or of its entries, have to match; empty if there is none."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    text = rules.repeated.items.string if field.is_repeated else rules.string
    return str(text.pattern)


def test_every_pattern_is_told_in_words() -> None:
    fields = list(fields_of_requests())
    maps = [field.GetOptions().Extensions[validate_pb2.field].map for field in fields]
    patterns = {pattern_of(field) for field in fields}
    patterns |= {side.string.pattern for each in maps for side in (each.keys, each.values)}
    assert len(patterns) > 25
    assert [pattern for pattern in patterns if pattern and not wanted(pattern)] == []


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (
            conversion_service_pb2.GetConversionTaskRequest(name="7"),
            "name: '7' must be a name such as conversionTasks/…",
        ),
        (
            model_service_pb2.GetModelVersionRequest(name="models/net"),
            "name: 'models/net' must be a name such as models/…/versions/… or models/…/aliases/…",
        ),
        (
            dataset_service_pb2.PreviewDatasetItemRequest(name="datasets/a/items/x"),
            "name: 'datasets/a/items/x' must be a name such as datasets/…/items/{number}",
        ),
    ],
)
def test_a_wrong_name_is_told_what_names_look_like(request_: Any, told: str) -> None:
    with pytest.raises(LatheError) as refused:
        check(request_)
    assert refused.value.message == told


def test_every_name_for_people_obeys_one_rule() -> None:
    names = [field for field in fields_of_requests() if field.name == "display_name"]
    rules = {
        field.full_name: [(rule.id, rule.expression) for rule in field.GetOptions().Extensions[validate_pb2.field].cel]
        for field in names
    }
    assert len(rules) >= 15
    assert {len(each) for each in rules.values()} == {1}, rules
    assert len({each[0] for each in rules.values()}) == 1


def refusal(message: Any) -> str:
    try:
        check(message)
    except LatheError as error:
        return error.message
    return ""


def seen(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Zl", "Zp"} or character in JOINERS


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cn"]) | st.sampled_from(" \n\u202e\u200d\u0301🙂a"), min_size=1)
)
def test_a_name_is_one_line_that_can_be_seen(name: str) -> None:
    ends = unicodedata.category(name[0])[0] not in "ZM" and name[0] not in JOINERS
    ends &= unicodedata.category(name[-1])[0] != "Z"
    tags = any("\U000e0020" <= character <= "\U000e007f" for character in name)
    good = ends and all(map(seen, name)) and len(name) <= 100
    told = refusal(model_service_pb2.Model(display_name=name))
    assert tags or (told == "") is good, (name, told)


@pytest.mark.parametrize(
    "name", ["ResNet-50", "größe 图", "👩\u200d🔬", "-rf", "a\u00a0b", "C++", "نام\u200cه", "🏴\U000e0067\U000e007f"]
)
def test_honest_names_are_taken(name: str) -> None:
    assert refusal(model_service_pb2.Model(display_name=name)) == ""


@pytest.mark.parametrize("name", ["  ", "\n", "a\nb", "\u202egnp", "\u200b", " a", "a\t", "\u2066", "a\0"])
def test_others_are_refused_with_what_to_do(name: str) -> None:
    told = refusal(model_service_pb2.Model(display_name=name))
    assert told.startswith("display_name: ")
    assert "remove line breaks" in told


@pytest.mark.parametrize(
    "path",
    [
        "-rf",
        "a/-rf",
        "a\nb",
        " a",
        "a /b",
        "a/ b",
        "\u202ea",
        "a\0",
        "\u200b",
        "..",
        "a/../b",
        "a//b",
        "/a",
        "a\\b",
        "",
    ],
)
def test_a_path_is_safe_on_every_command_line(path: str) -> None:
    told = refusal(File(path=path, digest=Digest(sha256="0" * 64)))
    assert told.startswith("path: ")


@pytest.mark.parametrize(
    "path", ["a", "a-b/c d.png", "图/größe.onnx", ".config", "a..b", "variables/variables.data-00000-of-1"]
)
def test_other_paths_are_taken(path: str) -> None:
    assert refusal(File(path=path, digest=Digest(sha256="0" * 64))) == ""
