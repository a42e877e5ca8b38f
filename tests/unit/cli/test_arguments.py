from __future__ import annotations

import pytest
from google.protobuf.json_format import MessageToDict

from services.cli.arguments import parse_args, parse_steps
from services.cli.failures import CliError


def test_steps_are_read_in_their_order() -> None:
    steps = parse_steps(["cvtRGB", "resize=2x3", "centercrop=4x5", "equal_resize=6x7", "transpose=2,0,1"])
    assert [MessageToDict(step) for step in steps] == [
        {"cvtRGB": True},
        {"resize": {"height": 2, "width": 3}},
        {"centercrop": {"height": 4, "width": 5}},
        {"equalResize": {"height": 6, "width": 7}},
        {"transpose": {"order": [2, 0, 1]}},
    ]


@pytest.mark.parametrize(
    "text", ["", "resize", "resize=2", "resize=2x", "resize=2x3x4", "transpose=a", "cvtRGB=1", "turn=1", "resize=9e9x1"]
)
def test_invalid_steps_are_rejected(text: str) -> None:
    with pytest.raises(CliError, match="is not a step; steps are resize=HEIGHTxWIDTH"):
        parse_steps([text])


def test_a_size_out_of_range_is_rejected() -> None:
    with pytest.raises(CliError, match="is not a step"):
        parse_steps(["resize=99999999999x1"])


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("3", {"si": "3"}),
        ("true", {"si": "1"}),
        ("0.5", {"sf": 0.5}),
        ("softmax", {"ss": "softmax"}),
        ("[8, 16]", {"vi": {"values": ["8", "16"]}}),
        ("[8, 0.5]", {"vf": {"values": [8.0, 0.5]}}),
        ("[a, b]", {"vs": {"values": ["a", "b"]}}),
    ],
)
def test_arguments_have_the_type_of_their_text(text: str, typed: dict[str, object]) -> None:
    assert {name: MessageToDict(value) for name, value in parse_args([f"x={text}"]).items()} == {"x": typed}


@pytest.mark.parametrize("text", ["x", "x=", "x=[]", "x=[1, a]", "x={a: 1}", "x=[1", "x=99999999999999999999"])
def test_invalid_arguments_are_rejected(text: str) -> None:
    with pytest.raises(CliError, match="--arg"):
        parse_args([text])
