"""Architectures are judged by their text, and every refusal says where and what to do."""

from contextlib import suppress

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lathe.registry.v1.architecture_service_pb2 import Architecture

from services.platform.errors import LatheError
from services.registry import architecture_rules

SOURCE = '@architecture("Net")\ndef build(num_classes=10):\n    return None\n'


def _architecture(**fields: str) -> Architecture:
    architecture = Architecture(display_name="Net", class_name="Net", source=SOURCE)
    for name, value in fields.items():
        setattr(architecture, name, value)
    return architecture


def test_function_and_digest_are_found() -> None:
    architecture = _architecture(config='{"num_classes": 10}')
    architecture_rules.complete(architecture)
    assert architecture.function == "build"
    assert architecture.digest == architecture_rules.content_digest(SOURCE, '{"num_classes": 10}')


@pytest.mark.parametrize(
    ("fields", "field", "reason", "words"),
    [
        ({"source": "def build(:\n"}, "architecture.source", "INVALID_ARCHITECTURE", "line 1"),
        ({"source": "\n\ndef build():\n    return 1\n"}, "architecture.source", "INVALID_ARCHITECTURE", "line 3"),
        ({"source": "x = 1\n"}, "architecture.source", "INVALID_ARCHITECTURE", "no top-level function"),
        ({"class_name": "Other"}, "architecture.class_name", "CLASS_NAME_MISMATCH", "says 'Net'"),
        ({"config": "a: [1"}, "architecture.config", "INVALID_CONFIG", "line 1"),
        ({"config": "- 1\n- 2\n"}, "architecture.config", "INVALID_CONFIG", "list"),
        ({"config": "num-classes: 1"}, "architecture.config", "INVALID_CONFIG", "num-classes"),
        ({"config": "!!python/object/apply:os.system ['true']"}, "architecture.config", "INVALID_CONFIG", "line 1"),
        ({"config": "[" * 5000}, "architecture.config", "INVALID_CONFIG", "nested"),
        ({"config": "when: 2024-13-45"}, "architecture.config", "INVALID_CONFIG", "month"),
        ({"config": "\x01"}, "architecture.config", "INVALID_CONFIG", "YAML"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, str], field: str, reason: str, words: str) -> None:
    with pytest.raises(LatheError) as refusal:
        architecture_rules.complete(_architecture(**fields))
    assert refusal.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.reason == reason
    assert refusal.value.fields[0][0] == field
    assert words in refusal.value.fields[0][1]


@given(st.text())
def test_no_configuration_breaks_the_check(config: str) -> None:
    # Whatever the text: accepted, or refused with a sentence.
    with suppress(LatheError):
        architecture_rules.complete(_architecture(config=config))


@given(st.text(), st.text(), st.text(), st.text())
def test_the_digest_tells_source_from_configuration(source: str, config: str, source2: str, config2: str) -> None:
    pair, pair2 = (source.replace("\0", ""), config), (source2.replace("\0", ""), config2)
    same = architecture_rules.content_digest(*pair) == architecture_rules.content_digest(*pair2)
    assert same is (pair == pair2)
