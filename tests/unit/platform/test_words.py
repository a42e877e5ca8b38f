from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseError
from lathe.converter.v1.conversion_service_pb2 import ConversionTask
from lathe.internal.v1.registry_service_pb2 import ReadTaskSourceRequest
from lathe.registry.v1.model_service_pb2 import ModelFormat, ModelVersion
from lathe.type.v1.measurement_pb2 import VERDICT_WARN, Verdict

from services.platform.words import from_values, number, to_values, word, words


def test_a_word_is_the_name_without_the_prefix_of_its_enum() -> None:
    assert word(Verdict, VERDICT_WARN) == "WARN"
    assert number(Verdict, "WARN") == number(Verdict, "VERDICT_WARN") == VERDICT_WARN
    assert words(Verdict) == ["PASS", "WARN", "UNVERIFIED", "FAIL"]
    with pytest.raises(ValueError, match="MAYBE"):
        number(Verdict, "MAYBE")


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (ModelVersion(), {"format": "ONNX", "package": {"precision": "INT8"}}),
        (ModelVersion(), {"parity": {"net": {"verdict": "PASS", "measure": "COSINE"}}}),
        (ReadTaskSourceRequest(), {"described_formats": ["ONNX", "PTH"]}),
        (ConversionTask(), {"attempts": [{"outcome": "LOST"}, {"stage": "EXECUTING"}]}),
    ],
)
def test_enums_are_words_wherever_they_are(message: Any, values: dict[str, Any]) -> None:
    made = from_values(values, message)
    assert to_values(made) == values
    assert from_values(values, type(made)()) == made


def test_what_does_not_fit_is_an_error_of_the_parser() -> None:
    wrong: list[dict[str, Any]] = [
        {"format": "NONE"},
        {"format": {}},
        {"package": 1},
        {"parity": []},
        {"nothing": "ONNX"},
    ]
    for values in wrong:
        with pytest.raises(ParseError):
            from_values(values, ModelVersion())
    assert from_values({"nothing": 1}, ModelVersion(), ignore_unknown_fields=True) == ModelVersion()
    assert from_values({"format": "MODEL_FORMAT_ONNX"}, ModelVersion()).format == number(ModelFormat, "ONNX")
