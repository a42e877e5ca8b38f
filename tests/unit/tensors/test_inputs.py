"""Rules about declared inputs, which services and engines share, and the specs that follow from the inputs."""

from typing import Any

import pytest

from engines.failures import InvalidField
from engines.spec.template import Component
from engines.tensors.inputs import ComponentInput, check_input, network_inputs, package_inputs


def given(**fields: Any) -> ComponentInput:
    return ComponentInput(name="x", **fields)


@pytest.mark.parametrize(
    ("fields", "max_batch"),
    [
        ({}, 4),
        ({"sample_values": (16000,)}, 4),
        ({"shape": (2, 1, 8), "batch_axis": 1}, 4),
        ({"shape": (3,), "batch_axis": -1}, 4),
        ({"shape": (2, 1, 8)}, 1),
        ({"shape": (1, 3, 8), "min_shape": (1, 3, 4), "max_shape": (1, 3, 64)}, 8),
    ],
)
def test_sound_inputs_pass(fields: dict[str, Any], max_batch: int) -> None:
    check_input(given(**fields), max_batch)


@pytest.mark.parametrize(
    ("fields", "max_batch", "field"),
    [
        ({"shape": (2, 3)}, 2, "shape"),
        ({"shape": (2, 3), "batch_axis": 0}, 1, "batch_axis"),
        ({"shape": (2, 1), "batch_axis": 2}, 2, "batch_axis"),
        ({"shape": (1, 0)}, 1, "shape"),
        ({"shape": (1, 2**20)}, 2**10, "shape"),
        ({"shape": (1, 3), "min_shape": (1, 2)}, 1, "max_shape"),
        ({"shape": (1, 3), "min_shape": (1, 4), "max_shape": (1, 5)}, 1, "min_shape"),
        ({"shape": (1, 3), "min_shape": (1, 3), "max_shape": (1, 2)}, 1, "max_shape"),
        ({"shape": (1, 3), "min_shape": (1, 3), "max_shape": (4, 3)}, 4, "max_shape"),
        ({"shape": (1, 3), "min_shape": (1, 3), "max_shape": (1, 2**30)}, 1, "max_shape"),
        ({"sample_min": 2, "sample_max": 1}, 1, "sample_min"),
        ({"shape": (1, 3), "sample_values": (1, 2)}, 1, "sample_values"),
        ({"shape": (1, 3), "preprocessing": {"mean_values": (1, 2)}}, 1, "preprocessing.mean_values"),
    ],
)
def test_unsound_inputs_are_refused_by_field(fields: dict[str, Any], max_batch: int, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check_input(given(**fields), max_batch)
    assert caught.value.field == field


def test_a_component_names_the_input_in_the_path() -> None:
    with pytest.raises(InvalidField) as caught:
        Component(name="net", inputs=(given(shape=(0,), batch_axis=-1),)).check()
    assert caught.value.field == "inputs.x.shape"
    with pytest.raises(InvalidField, match="input names are unique"):
        Component(name="net", inputs=(given(), given())).check()


def test_packages_take_batches_of_pixels_and_networks_floats_of_one_sample() -> None:
    pixels = given(shape=(1, 3, 8, 8), dtype="uint8", preprocessing={"scale_values": (255,)})
    (package,), (network,) = package_inputs([pixels], 4), network_inputs([pixels])
    assert (package.dtype, package.min, package.max) == ("uint8", (1, 3, 8, 8), (4, 3, 8, 8))
    assert (network.dtype, network.max) == ("float32", (1, 3, 8, 8))
