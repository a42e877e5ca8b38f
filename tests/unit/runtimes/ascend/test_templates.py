"""What AIPP cannot do is said when a template is created, as far as its inputs are declared then."""

from __future__ import annotations

from typing import Any

import pytest

from engines.failures import InvalidField
from engines.runtimes.targets import check_options
from engines.spec.template import Component

OWN = "aipp_op { aipp_mode: static input_format: RGB888_U8 src_image_size_w: 8 src_image_size_h: 8 }"

UNDECLARED = Component(name="net")


def component(**fields: Any) -> Component:
    declared = {"name": "data", "shape": (1, 3, 8, 8), "dtype": "uint8", **fields}
    return Component.model_validate({"name": "net", "inputs": [declared]})


def scaled(**steps: Any) -> dict[str, Any]:
    return {"preprocessing": {"input_color": "RGB", "model_color": "RGB", **steps}}


@pytest.mark.parametrize(
    ("options", "declared", "words"),
    [
        ({"insert_op_conf": "aipp_op { aipp_mode: static"}, UNDECLARED, "cannot be read at line and column"),
        (
            {"insert_op_conf": "aipp_op { aipp_mode: static input_format: RGB888_U8 mean_chn_0: 300 }"},
            UNDECLARED,
            "0 to 255",
        ),
        ({"insert_op_conf": OWN}, component(shape=(1, 3, 16, 8)), "8 pixels in h come out of it; the network takes 16"),
        ({"insert_op_conf": OWN}, component(shape=(1, 10)), "takes no images of 1 or 3 channels"),
        ({"insert_op_conf": OWN}, component(**scaled(mean_values=[1.0])), "data has preprocessing"),
        ({"aipp": "chip"}, component(**scaled(mean_values=[300.0])), "preprocessing.mean_values: AIPP subtracts 0 to"),
        ({"aipp": "chip"}, component(dtype="float32", **scaled(mean_values=[1.0])), "AIPP takes bytes"),
        ({"aipp": "chip"}, component(shape=(1, 3, 8, 5000), **scaled(mean_values=[1.0])), "images of width 2 to 4096"),
    ],
)
def test_what_aipp_cannot_do_is_refused_by_the_option(options: dict[str, str], declared: Component, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        check_options("ascend", options, [declared])
    assert caught.value.field == f"runtime_options[{next(iter(options))}]"


@pytest.mark.parametrize(
    ("options", "declared"),
    [
        ({"insert_op_conf": OWN}, component()),
        ({"insert_op_conf": OWN}, component(shape=())),
        ({"insert_op_conf": OWN}, UNDECLARED),
        ({"aipp": "chip"}, component(**scaled(mean_values=[1.0]))),
        ({"aipp": "graph"}, component(**scaled(mean_values=[300.0]))),
    ],
)
def test_what_it_can_do_or_nobody_knows_yet_is_taken(options: dict[str, str], declared: Component) -> None:
    check_options("ascend", options, [declared])
