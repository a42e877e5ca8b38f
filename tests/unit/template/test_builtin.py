"""Every conversion of ModelArts has a built-in template, and its options exist under Lathe's names."""

from __future__ import annotations

import pytest

from engines.runtimes.targets import check_options
from services.siblings.recipes import built_in_name
from services.template.builtin import built_in_templates


@pytest.fixture(scope="module")
def names() -> set[str]:
    return {template.name for template in built_in_templates()}


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        ("CAFFE", [("ascend-310", "ascend"), ("ascend-310p", "ascend")]),
        ("FROZEN_GRAPH", [("cpu-arm64", "litert"), ("nvidia-p4", "tensorrt"), ("nvidia-t4", "tensorrt")]),
        ("SAVED_MODEL", [("cpu-arm64", "litert"), ("nvidia-p4", "tensorrt"), ("nvidia-t4", "tensorrt")]),
        ("FROZEN_GRAPH", [("ascend-310", "ascend"), ("ascend-310p", "ascend"), ("ascend-910b", "ascend")]),
        ("SAVED_MODEL", [("ascend-310", "ascend"), ("ascend-310p", "ascend"), ("ascend-910b", "ascend")]),
        ("ONNX", [("ascend-310", "ascend"), ("ascend-310p", "ascend"), ("ascend-910b", "ascend")]),
    ],
)
def test_every_pair_of_modelarts_has_a_template(source: str, targets: list[tuple[str, str]], names: set[str]) -> None:
    assert {built_in_name(source, device, runtime, "FP32") for device, runtime in targets} <= names


@pytest.mark.parametrize(
    "options",
    [
        {"input_format": "NHWC"},
        {"out_nodes": "logits:0;scores:0"},
        {"op_select_implmode": "high_precision"},
        {"output_type": "UINT8"},
    ],
)
def test_the_options_of_its_templates_for_ascend_are_options_of_the_runtime(options: dict[str, str]) -> None:
    check_options("ascend", options)
