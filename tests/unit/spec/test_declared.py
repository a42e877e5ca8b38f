"""Declared inputs compared with the inputs of the graph."""

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.spec.declared_inputs import check_declared
from engines.spec.information import apply
from engines.spec.template import Component
from engines.tensors.shapes import OPEN_EXTENT
from engines.tensors.signature import Signature, TensorSpec

OPEN = TensorSpec("x", "float32", (1, 3, 1), (1, 3, 1), (OPEN_EXTENT, 3, OPEN_EXTENT))
MASK = TensorSpec.fixed("mask", "bool", (1, 7))
ANY = TensorSpec.unknown("any", "int64")
GRAPH = Signature((OPEN, MASK, ANY), ())


def declared(text: str) -> Component:
    return apply(text, Component(name="net"))


@pytest.mark.parametrize("shape", ["1*3*8", "1*3*4,1*3*64", "[4*3*8,1*3*9]"])
def test_matching_declarations_pass(shape: str) -> None:
    check_declared(declared(f"x:float({shape})\nmask:bool(1*7)\nany:int64(1*2,1*3)"), GRAPH)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("1*3", "declared with the shape 1*3; the graph takes any*3*any: it has 3 axes and not 2."),
        ("1*4*8", "declared with the shape 1*4*8; the graph takes any*3*any: its axis 1 is fixed at 3."),
        (
            "1*3*4,1*5*4",
            "shape 1*3*4 to 1*5*4; the graph takes any*3*any: its axis 1 is fixed at 3 and cannot vary from 3 to 5.",
        ),
        (
            "[1*2*8,1*3*8]",
            "1*2*8 to 1*3*8; the graph takes any*3*any: its axis 1 is fixed at 3 and cannot vary from 2 to 3.",
        ),
    ],
)
def test_other_declarations_are_refused_with_both_sides(shape: str, words: str) -> None:
    with pytest.raises(EngineFailure) as caught:
        check_declared(declared(f"x:float({shape})\nmask:bool(1*7)\nany:int64(1)"), GRAPH)
    assert caught.value.reason is FailureReason.INVALID_SPEC
    assert caught.value.message.startswith("Input 'x' is declared with the shape ")
    assert words in caught.value.message


def test_names_dtypes_and_batches_are_compared() -> None:
    with pytest.raises(EngineFailure, match="declares the inputs x, y; the graph has x, mask, any"):
        check_declared(declared("x:float(1*3*8)\ny:bool(1)"), GRAPH)
    with pytest.raises(EngineFailure, match="Input 'mask' is declared as int64; the graph takes bool"):
        check_declared(declared("x:float(1*3*8)\nmask:int64(1*7)\nany:int64(1)"), GRAPH)
    with pytest.raises(EngineFailure, match="The batch of input 'mask', axis 0, is fixed at 1 in the graph"):
        check_declared(declared("x:float(1*3*8,4*3*8)\nmask:bool(1*7,4*7)\nany:int64(1,4)"), GRAPH)


def test_the_declared_batch_axis_counts() -> None:
    state = TensorSpec("state", "float32", (2, 1, 8), (2, 1, 8), (2, OPEN_EXTENT, 8))
    graph = Signature((OPEN, state), ())
    check_declared(declared("x:float(1*3*8,4*3*8) state:float(2*1*8,2*4*8) batch=1"), graph)
    check_declared(declared("x:float(1*3*8,4*3*8) state:float(2*1*8) batch=none"), graph)
    with pytest.raises(
        EngineFailure, match="'state' is declared with the shape 1\\*1\\*8; the graph takes 2\\*any\\*8"
    ):
        check_declared(declared("x:float(1*3*8,4*3*8) state:float(1*1*8,4*1*8)"), graph)
