"""Tensor information compared with the described inputs of the model's graph."""

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.spec.declared_inputs import check_information
from engines.spec.template import Component
from engines.tensors.inputs import ComponentInput
from engines.tensors.shapes import OPEN_EXTENT
from engines.tensors.signature import Signature, TensorSpec

GRAPH = Signature(
    (
        TensorSpec("image", "float32", (1, 3, 8, 8), (2, 3, 8, 8), (16, 3, 8, 8)),
        TensorSpec("ids", "int64", (1, 1), (1, 1), (OPEN_EXTENT, OPEN_EXTENT)),
    ),
    (),
).to_dict()
PLAIN = Component(name="model")


def fixed(source_format: str) -> bool:
    return FORMATS[source_format].fixed_inputs


def failure(text: str, component: Component = PLAIN, source_format: str = "ONNX") -> str:
    with pytest.raises(EngineFailure) as caught:
        check_information(text, component, GRAPH, fixed_inputs=fixed(source_format))
    assert caught.value.reason is FailureReason.INVALID_SPEC
    assert caught.value.suggested_fix
    return caught.value.message


@pytest.mark.parametrize("source_format", ["ONNX", "SAVED_MODEL", "FROZEN_GRAPH", "EXPORTED_PROGRAM"])
def test_misfits_are_named(source_format: str) -> None:
    fits = "input_0:float(1*3*8*8,4*3*8*8)\ninput_1:int64(1*7,4*7)"
    check_information(fits, PLAIN, GRAPH, fixed_inputs=fixed(source_format))
    check_information(
        "ids:int64(1*7)\nimage:float(1*3*8*8)", PLAIN, GRAPH, fixed_inputs=FORMATS[source_format].fixed_inputs
    )
    for text, words in (
        ("image:float(1*3*8*8)", "says 1 inputs of component 'model' (image); the model has 2: image, ids"),
        ("image:float(1*3*8*8)\nmask:int64(1*7)", "line 2, says the input 'mask'"),
        ("image:float(1*3*8)\nids:int64(1*7)", "it has 4 axes and not 3"),
        ("image:float(1*4*8*8)\nids:int64(1*7)", "axis 1 is fixed at 3"),
        ("image:float(1*3*8*8)\nids:float(1*7)", "'ids' is declared as float32; the graph takes int64"),
    ):
        assert words in failure(text, PLAIN, source_format)


def test_unknown_parts_are_not_compared() -> None:
    check_information("input_0:float(1*9)", PLAIN, {})
    unknown = Signature((TensorSpec.unknown("image", "float32"),), ()).to_dict()
    check_information("input_0:int8(1*9)\ninput_1:float(3)", PLAIN, unknown)
    inner = Component(name="model", inputs=(ComponentInput(name="inner/relu", shape=(1, 9)),))
    check_information("input_0:float(1*9)", inner, GRAPH)


def test_declared_inputs_take_precedence() -> None:
    declared = Component(name="model", inputs=(ComponentInput(name="inner/relu", shape=(1, 9)),))
    assert "it has inner/relu" in failure("image:float(1*9)", declared, "FROZEN_GRAPH")
    assert "it has inner/relu" in failure("image:float(1*9)", declared, "TORCHSCRIPT")


def test_inputs_with_a_default_are_left_to_the_reader() -> None:
    declared = Component(name="model", inputs=(ComponentInput(name="scale", shape=(1,)),))
    for text, component in (("image:float(1*9)\nscale:float(1)", PLAIN), ("", declared)):
        check_information(text, component, GRAPH, ["scale"], fixed_inputs=True)
        with pytest.raises(EngineFailure):
            check_information(text, component, GRAPH, ["bias"], fixed_inputs=True)
