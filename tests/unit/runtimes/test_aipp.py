"""AIPP's configuration from a package's preprocessing, the rules for users' own files, and its arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.failures import InvalidField
from engines.imaging.nv12 import planes
from engines.runtimes.ascend.aipp import aipp_ops, aipp_text
from engines.runtimes.ascend.aipp_arithmetic import agreement, aipp, verdicts
from engines.runtimes.ascend.aipp_rules import FIELDS, AippOp, read_aipp, violations
from engines.tensors.inputs import ComponentInput, active_steps, network_inputs, package_inputs
from engines.tensors.samples import SampleRange, generated
from engines.tensors.signature import TensorSpec

NV12: dict[str, Any] = {"input_color": "NV12", "model_color": "RGB"}
MEAN, SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NETWORK = [TensorSpec.fixed("image", "float32", (1, 3, 224, 320))]


def taking(shape: tuple[int, ...] = (1, 3, 8, 6), dtype: str = "uint8", **fields: Any) -> ComponentInput:
    ends = {name: fields.pop(name) for name in ("min_shape", "max_shape") if name in fields}
    values: dict[str, Any] = {"name": "image", "shape": shape, "dtype": dtype, "preprocessing": fields} | ends
    return ComponentInput.model_validate(values)


def ops(*inputs: ComponentInput) -> tuple[AippOp, ...]:
    layout = "NHWC" if inputs[0].shape[3:] == (3,) else "NCHW"
    return aipp_ops(package_inputs(inputs, 1), network_inputs(inputs), active_steps(inputs), layout)


def matrix(op: AippOp) -> list[list[Any]]:
    rows = [[op[f"matrix_r{row}c{column}"] for column in range(3)] for row in range(3)]
    return [*rows, [op[f"input_bias_{number}"] for number in range(3)]]


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        ({}, [[298, 0, 409], [298, -100, -208], [298, 516, 0], [16, 128, 128]]),
        ({"input_range": "WIDE"}, [[256, 0, 359], [256, -88, -183], [256, 454, 0], [0, 128, 128]]),
        ({"model_color": "BGR"}, [[298, 516, 0], [298, -100, -208], [298, 0, 409], [16, 128, 128]]),
        ({"input_matrix": "BT709"}, [[298, 0, 459], [298, -55, -136], [298, 541, 0], [16, 128, 128]]),
        (
            {"input_matrix": "BT709", "input_range": "WIDE", "model_color": "BGR"},
            [[256, 475, 0], [256, -48, -120], [256, 0, 403], [0, 128, 128]],
        ),
    ],
)
def test_the_matrices_are_those_of_the_manual(colors: dict[str, Any], expected: list[list[int]]) -> None:
    (op,) = ops(taking(**{**NV12, **colors}))
    assert matrix(op) == expected
    assert (op["csc_switch"], op["rbuv_swap_switch"], op["input_format"]) == (True, False, "YUV420SP_U8")


def test_a_mean_is_a_whole_number_and_a_fraction_and_a_scale_becomes_a_factor() -> None:
    (op,) = ops(taking(mean_values=MEAN, scale_values=SCALE, **NV12))
    assert [op[f"mean_chn_{n}"] for n in range(3)] == [123, 116, 103]
    assert [op[f"min_chn_{n}"] for n in range(3)] == [float(np.float16(mean % 1)) for mean in MEAN]
    assert [op[f"var_reci_chn_{n}"] for n in range(3)] == [float(np.float16(1 / scale)) for scale in SCALE]
    (one,) = ops(taking(mean_values=(127.5,), scale_values=(127.5,), **NV12))
    assert {one[f"mean_chn_{n}"] for n in range(3)} == {127}


def test_colours_and_greys_take_their_own_formats_and_a_size_that_varies_is_the_networks() -> None:
    swapped, grey, varying = ops(
        taking(input_color="BGR", model_color="RGB"),
        taking((1, 1, 8, 6), mean_values=(10,)).model_copy(update={"name": "grey"}),
        taking(min_shape=(1, 3, 4, 6), max_shape=(1, 3, 16, 6), **NV12).model_copy(update={"name": "varying"}),
    )
    assert (swapped["input_format"], swapped["csc_switch"], swapped["rbuv_swap_switch"]) == ("RGB888_U8", False, True)
    assert (swapped["src_image_size_w"], swapped["src_image_size_h"]) == (6, 8)
    assert (grey["input_format"], grey["related_input_rank"], "mean_chn_1" in grey) == ("YUV400_U8", 1, False)
    assert (varying["src_image_size_w"], varying["src_image_size_h"]) == (0, 0)
    assert ops(taking()) == ()


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        (taking(mean_values=(300,)), "preprocessing.mean_values"),
        (taking(mean_values=(-1,)), "preprocessing.mean_values"),
        (taking(scale_values=(1e-6,)), "preprocessing.scale_values"),
        (taking(scale_values=(1e6,)), "preprocessing.scale_values"),
        (taking((1, 3, 8, 5000), mean_values=(1,)), "shape"),
        (taking((1, 3, 8), mean_values=(1,)), "shape"),
        (taking(dtype="float32", mean_values=(1,)), "dtype"),
    ],
)
def test_what_aipp_cannot_do_is_refused_by_field(declared: ComponentInput, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        ops(declared)
    assert caught.value.field == f"inputs.image.{field}"


@pytest.mark.parametrize(
    "declared",
    [
        taking(mean_values=MEAN, scale_values=SCALE, **NV12),
        taking((1, 8, 6, 3), input_color="RGB", model_color="BGR"),
        taking((1, 1, 8, 6), scale_values=(255,)),
    ],
)
def test_what_is_written_keeps_the_rules_and_is_read_again(declared: ComponentInput) -> None:
    made = ops(declared)
    text = aipp_text(made)
    assert violations(text, network_inputs([declared])) == []
    stated = [{name: value for name, value in op.items() if value} for op in made]
    found = [{name: value for name, value in op.items() if value} for op in read_aipp(text)]
    assert found == stated


def test_the_fields_are_those_of_the_proto() -> None:
    # AippOpParams of insert_op.proto, whose licence does not let it be copied here.
    numbers = [f"{name}_{n}" for name in ("mean_chn", "min_chn", "var_reci_chn") for n in range(4)]
    cells = [f"matrix_r{row}c{column}" for row in range(3) for column in range(3)]
    biases = [f"{end}_bias_{n}" for end in ("input", "output") for n in range(3)]
    sides = [f"{side}_padding_size" for side in ("left", "right", "top", "bottom")]
    pairs = ("src_image_size", "load_start_pos", "crop_size", "resize_output")
    sizes = [f"{name}_{side}" for name in pairs for side in "wh"]
    others = "aipp_mode related_input_rank related_input_name input_edge_idx max_src_image_size support_rotation "
    others += "input_format csc_switch cpadding_value rbuv_swap_switch ax_swap_switch single_line_mode crop resize "
    others += "padding padding_value raw_rgbir_to_f16_n"
    assert sorted(FIELDS) == sorted([*numbers, *cells, *biases, *sides, *sizes, *others.split()])


STATIC = "aipp_mode: static input_format: RGB888_U8 "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("aipp_op { aipp_mode: static", "cannot be read at line and column 1:"),
        ("aipp_op { colour: 1 }", 'no field named "colour"'),
        ("multi_shape_op { mode: batch }", 'no field named "multi_shape_op"'),
        ("", "has no aipp_op"),
        ("aipp_op { input_format: RGB888_U8 }", "aipp_op 1: aipp_mode is missing"),
        ("aipp_op { aipp_mode: static }", "input_format is UNDEFINED; it is YUV420SP_U8"),
        ("aipp_op { aipp_mode: static input_format: RAW10 }", "input_format is RAW10"),
        ("aipp_op { aipp_mode: dynamic }", "max_src_image_size is missing"),
        (f"aipp_op {{ {STATIC} resize: true }}", "resize is reserved"),
        (f"aipp_op {{ {STATIC} mean_chn_1: 256 }}", "mean_chn_1 is 256; it is 0 to 255"),
        (f"aipp_op {{ {STATIC} var_reci_chn_0: 1 var_reci_chn_0: 2 }}", "var_reci_chn_0 is given 2 times"),
        (f"aipp_op {{ {STATIC} related_input_rank: 1 }}", "related_input_rank is 1; the network has 1 inputs"),
        (f'aipp_op {{ {STATIC} related_input_name: "mask" }}', "related_input_name is mask; the network's inputs are "),
        (
            f'aipp_op {{ {STATIC} related_input_name: "{NETWORK[0].name}" src_image_size_w: 100 }}',
            "100 pixels in w come out of it; the network takes 320",
        ),
        (f"aipp_op {{ {STATIC} }} aipp_op {{ {STATIC} }}", "related_input_rank is the same in two"),
        (f'aipp_op {{ {STATIC} }} aipp_op {{ {STATIC} related_input_name: "x" }}', "are mixed"),
        (f"aipp_op {{ {STATIC} src_image_size_w: 5000 }}", "src_image_size_w is 5000; it is 2 to 4096"),
        (f"aipp_op {{ {STATIC} src_image_size_w: 100 }}", "100 pixels in w come out of it; the network takes 320"),
        (f"aipp_op {{ {STATIC} crop: true }}", "src_image_size_w is missing, which crop and padding need"),
        (
            f"aipp_op {{ {STATIC} crop: true src_image_size_w: 330 src_image_size_h: 224 load_start_pos_w: 11 }}",
            "load_start_pos_w + crop_size_w is 331, beyond the image's 330",
        ),
        (
            "aipp_op { aipp_mode: static input_format: YUV420SP_U8 crop: true src_image_size_w: 331 "
            "src_image_size_h: 224 load_start_pos_w: 3 }",
            "src_image_size_w is 331; it is even",
        ),
    ],
)
def test_a_users_file_is_checked_by_rule(text: str, words: str) -> None:
    found = violations(text, NETWORK)
    assert any(words in each for each in found), found


def test_all_violations_are_listed_and_a_good_file_has_none() -> None:
    found = violations(f"aipp_op {{ {STATIC} mean_chn_0: -1 resize: true src_image_size_h: 9 }}", NETWORK)
    assert len(found) == 3
    good = f"aipp_op {{ {STATIC} crop: true src_image_size_w: 400 src_image_size_h: 300 crop_size_w: 310\n"
    good += "crop_size_h: 224 padding: true left_padding_size: 10 } # a comment"
    assert violations(good, NETWORK) == []


def images(spec: TensorSpec, seed: int, declared: ComponentInput) -> list[Any]:
    values = SampleRange(pixels=True, nv12=declared.preprocessing.nv12)
    return [feed[spec.name] for feed in generated([spec], {spec.name: values}, seed).feeds[-2:]]


@st.composite
def declared_inputs(draw: st.DrawFn) -> ComponentInput:
    order = draw(st.sampled_from(["NV12", "RGB", "BGR"]))
    steps: dict[str, Any] = {"input_color": order, "model_color": draw(st.sampled_from(["RGB", "BGR"]))}
    if order == "NV12":
        steps["input_range"] = draw(st.sampled_from(["NARROW", "WIDE"]))
        steps["input_matrix"] = draw(st.sampled_from(["BT601", "BT709"]))
    steps["mean_values"] = draw(st.tuples(*[st.floats(0, 255)] * 3))
    steps["scale_values"] = draw(st.tuples(*[st.floats(0.05, 300)] * 3))
    return taking(draw(st.sampled_from([(1, 3, 8, 12), (1, 8, 12, 3)])), **steps)


@given(declared_inputs(), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_aipp_agrees_with_the_packages_preprocessing_within_its_bound(declared: ComponentInput, seed: int) -> None:
    (op,) = ops(declared)
    (spec,) = package_inputs([declared], 1)
    for fed in images(spec, seed, declared):
        assert (found := agreement(op, declared.steps, fed)).holds, found
    levels = 2 if declared.preprocessing.takes_nv12 else 0.5
    assert found.bound <= levels / min(declared.preprocessing.scale_values), "so many levels of a byte"


def test_the_agreement_is_told_for_each_input_and_a_wrong_file_disagrees() -> None:
    declared = [
        taking(mean_values=(0, 116, 104), scale_values=SCALE, **NV12),
        taking((1, 8, 6, 3), input_color="BGR", model_color="RGB").model_copy(update={"name": "other"}),
        taking((1, 1, 8, 6), scale_values=(255,)).model_copy(update={"name": "grey"}),
    ]
    text = "".join(aipp_text(aipp_ops([p], [n], active_steps([d]), "NHWC" if n.opt[3] == 3 else "NCHW"))
                   .replace("related_input_rank: 0", f"related_input_rank: {rank}")
                   for rank, (p, n, d) in enumerate(zip(package_inputs(declared, 4), network_inputs(declared), declared,
                                                        strict=True)))  # fmt: skip
    package, steps = package_inputs(declared, 4), active_steps(declared)
    first, second, third = verdicts(text, package, steps)
    assert "prepares 'image' in fixed point and float16" in first
    assert all("it agrees with the package's preprocessing: they differ by" in each for each in (first, second, third))
    wrong = text.replace("matrix_r0c2: 409", "matrix_r0c2: 359")
    assert "DISAGREES" in next(iter(verdicts(wrong, package, steps)))


def test_images_in_another_layout_than_atcs_are_refused() -> None:
    last = taking((1, 8, 6, 3), scale_values=(255,))
    with pytest.raises(InvalidField, match="in NCHW, and input 'image' has the shape"):
        aipp_ops(package_inputs([last], 1), network_inputs([last]), active_steps([last]))


@given(st.integers(0, 2**31))
@settings(max_examples=40)
def test_its_conversion_of_colours_is_within_two_levels_of_other_implementations(seed: int) -> None:
    from PIL import Image

    nv12 = np.random.default_rng(seed).integers(0, 256, (1, 12, 6)).astype(np.uint8)
    (wide,) = ops(taking(**NV12, input_range="WIDE"))
    yuv = [Image.fromarray(plane) for plane in planes(nv12)[0]]
    expected = np.asarray(Image.merge("YCbCr", yuv).convert("RGB"), np.float64)
    np.testing.assert_allclose(aipp(wide, nv12)[0].transpose(1, 2, 0), expected, atol=2)
    import cv2

    nv12[:, :8] = nv12[:, :8].clip(16)
    (narrow,) = ops(taking(**NV12))
    expected = cv2.cvtColor(nv12[0], cv2.COLOR_YUV2RGB_NV12).astype(np.float64)
    np.testing.assert_allclose(aipp(narrow, nv12)[0].transpose(1, 2, 0), expected, atol=2)


def test_the_order_is_swap_crop_colours_numbers_padding() -> None:
    text = """aipp_op { aipp_mode: static input_format: YUV420SP_U8 rbuv_swap_switch: true csc_switch: true
        matrix_r0c0: 256 matrix_r0c1: 0 matrix_r0c2: 256 matrix_r1c0: 256 matrix_r1c1: 0 matrix_r1c2: 0
        matrix_r2c0: 128 matrix_r2c1: 0 matrix_r2c2: 0 input_bias_0: 0 input_bias_1: 0 input_bias_2: 0
        src_image_size_w: 4 src_image_size_h: 2 crop: true load_start_pos_w: 2 load_start_pos_h: 0
        crop_size_w: 2 crop_size_h: 2 mean_chn_0: 10 min_chn_0: 0.5 var_reci_chn_0: 2 var_reci_chn_1: 1
        var_reci_chn_2: 1 padding: true left_padding_size: 1 padding_value: 7 }"""
    (op,) = read_aipp(text)
    nv12 = np.array([[[1, 2, 31, 200], [5, 6, 7, 8], [0, 0, 60, 90]]], np.uint8)  # U is 60, V is 90 where it is kept
    found = aipp(op, nv12)
    assert found.dtype == np.float16
    assert found[0, 0].tolist() == [[7, (31 + 60 - 10.5) * 2, (255 - 10.5) * 2], [7, (67 - 10.5) * 2, (68 - 10.5) * 2]]
    assert found[0, 2].tolist() == [[7, 15, 100], [7, 3, 4]]
