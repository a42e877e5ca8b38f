"""Rules about declared inputs, which services and engines share, and the specs that follow from the inputs."""

from typing import Any

import pytest

from engines.failures import InvalidField
from engines.spec.template import Component
from engines.tensors.inputs import ComponentInput, check_input, network_inputs, package_inputs

NV12 = {"input_color": "NV12", "model_color": "RGB"}
IMAGE = (1, 3, 8, 8)


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
        ({"shape": IMAGE, "preprocessing": NV12 | {"input_range": "WIDE"}, "sample_values": (16,) * 96}, 8),
        ({"shape": (1, 8, 8, 3), "dtype": "float16", "preprocessing": NV12}, 8),
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
        ({"shape": (1, 3, 7, 8), "preprocessing": NV12}, 1, "shape"),
        ({"shape": (1, 8, 7, 3), "preprocessing": NV12}, 1, "shape"),
        ({"shape": (1, 12, 8), "preprocessing": NV12}, 1, "shape"),
        ({"shape": (1, 1, 8, 8), "preprocessing": NV12}, 1, "preprocessing.input_color"),
        ({"shape": IMAGE, "min_shape": (1, 3, 5, 8), "max_shape": IMAGE, "preprocessing": NV12}, 1, "min_shape"),
        ({"shape": IMAGE, "batch_axis": 3, "preprocessing": NV12}, 1, "batch_axis"),
        ({"shape": IMAGE, "dtype": "int64", "preprocessing": NV12}, 1, "dtype"),
        ({"shape": IMAGE, "preprocessing": {"input_color": "NV12"}}, 1, "preprocessing.model_color"),
        ({"shape": IMAGE, "preprocessing": {"model_color": "NV12"}}, 1, "preprocessing.model_color"),
        ({"shape": IMAGE, "preprocessing": {"input_range": "WIDE"}}, 1, "preprocessing.input_range"),
        ({"shape": IMAGE, "preprocessing": {"input_matrix": "BT709"}}, 1, "preprocessing.input_matrix"),
        ({"shape": IMAGE, "preprocessing": {**NV12, "mean_values": (1, 2)}}, 1, "preprocessing"),
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


@pytest.mark.parametrize(("shape", "ends"), [((1, 3, 8, 4), (4, 12)), ((1, 8, 4, 3), (4, 12))])
def test_a_package_of_nv12_images_takes_rows_of_bytes(shape: tuple[int, ...], ends: tuple[int, int]) -> None:
    axis = shape.index(8)
    low, high = ((*shape[:axis], extent, *shape[axis + 1 :]) for extent in ends)
    declared = given(shape=shape, min_shape=low, max_shape=high, preprocessing=NV12)
    (spec,) = package_inputs([declared], 2)
    assert (spec.dtype, spec.min, spec.opt, spec.max) == ("uint8", (1, 6, 4), (1, 12, 4), (2, 18, 4))
    (own,) = network_inputs([declared])
    assert (own.dtype, own.opt) == ("float32", shape)
    assert declared.steps.channels_last == (shape[3] == 3)
