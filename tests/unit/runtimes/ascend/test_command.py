"""What the room asks of ATC: the stand-in takes it, or the room refuses it before and names the field."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason, InvalidField
from engines.runtimes.ascend.command import CAFFE, FROZEN_GRAPH, ONNX, Command, Material, atc_command, write_files
from engines.runtimes.ascend.onnx_file import write_for_atc
from engines.runtimes.ascend.options import KNOBS
from engines.runtimes.knobs import check_knobs
from engines.tensors.signature import NO_BATCH, TensorSpec
from tests.unit.runtimes.ascend import models
from tests.unit.runtimes.ascend.atc_stand_in import SUCCESS, answer
from tests.unit.runtimes.ascend.installation import CHIPS, install

SOC = "Ascend310P3"
PLAIN: Mapping[str, str] = {}


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of the stand-in: where the operators of chips are."""
    home = install(tmp_path_factory.mktemp("cann") / "cann", chips=CHIPS)
    return {"ASCEND_OPP_PATH": str(home / "opp")}


def made(
    inputs: Sequence[TensorSpec], knobs: Mapping[str, str] = PLAIN, precision: str = "FP16", *, kind: str = ONNX
) -> Command:
    check_knobs("ATC", knobs, KNOBS)
    weights = "model.caffemodel" if kind == CAFFE else ""
    return atc_command(Material(kind, "model.onnx", tuple(inputs), weights), SOC, precision, knobs, second=True)


def option(command: Command, name: str) -> str:
    return next((each.partition("=")[2] for each in command.arguments if each.startswith(f"--{name}=")), "")


def spec(name: str, shape: Sequence[int], most: Sequence[int] | None = None, batch: int = 0) -> TensorSpec:
    return TensorSpec(name, "float32", tuple(shape), tuple(shape), tuple(most or shape), batch_axis=batch)


EXTENTS = st.integers(1, 6)


@st.composite
def tensors(draw: st.DrawFn, name: str) -> TensorSpec:
    low = draw(st.lists(EXTENTS, min_size=0, max_size=5))
    more = draw(st.lists(st.sampled_from([0, 0, 1, 7]), min_size=len(low), max_size=len(low)))
    high = tuple(a + b for a, b in zip(low, more, strict=True))
    batch = draw(st.sampled_from([0, NO_BATCH])) if low else NO_BATCH
    return TensorSpec(name, "float32", tuple(low), tuple(low), high, batch_axis=batch)


GEARS = st.lists(st.lists(st.sampled_from("1235678"), min_size=1, max_size=4).map(",".join), min_size=1, max_size=4)
VALUES: dict[str, st.SearchStrategy[str]] = {
    "dynamic_batch_size": st.lists(st.sampled_from("1248"), min_size=1, max_size=5).map(",".join),
    "dynamic_image_size": GEARS.map(";".join),
    "dynamic_dims": GEARS.map(";".join),
    "out_nodes": st.sampled_from(["y", "end:0", "add0:0", "nowhere:0", "y;add0:0"]),
    "output_type": st.sampled_from(["FP16", "UINT8", "end:0:FP16", "FP8"]),
    "input_fp16_nodes": st.sampled_from(["x", "x;z", " x"]),
    "keep_dtype": st.sampled_from(["add0", "add0;OpType::Softmax", ";"]),
    "op_precision_mode": st.sampled_from(["Exp=high_precision", "Exp=fast", "Exp=high_precision;Log=keep_fp16"]),
    "optypelist_for_implmode": st.sampled_from(["Pooling", "Pooling,SoftmaxV2"]),
    "log": st.sampled_from(["none", "debug", "error,info", "loud"]),
    "insert_op_conf": st.just("aipp_op { aipp_mode: static }"),
    "soc_version": st.sampled_from(["Ascend310P1", "Ascend910B3", "V100"]),
}
OFFERED = {
    knob.name: VALUES[knob.name] if knob.name in VALUES else st.sampled_from(sorted(knob.values)) for knob in KNOBS
}
TUNED = st.lists(st.sampled_from(sorted(OFFERED)), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: OFFERED[name] for name in names})
)


def check_refusal(failure: EngineFailure, knobs: Mapping[str, str]) -> None:
    assert failure.reason is FailureReason.INVALID_SPEC
    if isinstance(failure, InvalidField):
        assert failure.field.removeprefix("template.runtime_options[").removesuffix("]") in OFFERED
    else:
        assert any(f"'{name}'" in failure.message for name in ["x", "z", *knobs])


@given(
    first=tensors("x"),
    second=st.none() | tensors("z"),
    knobs=TUNED,
    precision=st.sampled_from(["FP32", "FP16", "BF16"]),
)
@settings(max_examples=250, deadline=None)
def test_what_the_room_emits_is_taken_or_refused_before_with_the_field(
    operators: Mapping[str, str],
    first: TensorSpec,
    second: TensorSpec | None,
    knobs: dict[str, str],
    precision: str,
) -> None:
    inputs = [first, *([second] if second else [])]
    command = refused = None
    try:
        command = made(inputs, knobs, precision)
    except EngineFailure as failure:
        refused = failure
    if command is None or refused is not None:
        assert refused is not None
        check_refusal(refused, knobs)
        return
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        write_for_atc(models.graph(folder / "given.onnx", inputs).graph(), precision, folder)
        write_files(folder, command.files)
        status, text = answer(command.arguments, folder, operators)
    absent = {"nowhere:0", "z"} & {
        name for key in ("out_nodes", "input_fp16_nodes") for name in knobs.get(key, "").split(";")
    }
    foreign = ":" in knobs.get("output_type", "") and "end:0" not in knobs["out_nodes"].split(";")
    mixed = knobs.get("out_nodes") == "y;add0:0"
    if (absent - {each.name for each in inputs}) or foreign or mixed:
        assert "is not found in the model" in text or "not in out_nodes" in text  # what only the model itself tells
    else:
        assert (status, SUCCESS in text) == (0, True), text


@pytest.mark.parametrize(
    ("inputs", "shapes", "gears"),
    [
        ([spec("x", (1, 4))], "x:1,4", ""),
        ([spec("x", (1, 4), (8, 4))], "x:-1,4", "dynamic_batch_size=1,2,4,8"),
        ([spec("x", (1, 4), (6, 4))], "x:-1,4", "dynamic_batch_size=1,2,4,6"),
        ([spec("x", (1, 3, 8, 8), (1, 3, 16, 24))], "x:1,3,-1,-1", "dynamic_image_size=8,8;16,24"),
        ([spec("x", (1, 8), (1, 64), NO_BATCH)], "x:1,-1", "dynamic_dims=8;64"),
        ([spec("x", (1, 4), (2, 9))], "x:-1,-1", "dynamic_dims=1,4;1,9;2,4;2,9"),
        # Beside an input without axes, ATC refuses batches: dimensions do.
        ([spec("x", (1, 4), (2, 4)), spec("k", (), batch=NO_BATCH)], "x:-1,4;k:", "dynamic_dims=1;2"),
        ([spec("x", (1, 4), (2, 4)), spec("z", (1, 5), (2, 5))], "x:-1,4;z:-1,5", "dynamic_batch_size=1,2"),
    ],
)
def test_shape_ranges_become_gears(inputs: list[TensorSpec], shapes: str, gears: str) -> None:
    command = made(inputs)
    assert option(command, "input_shape") == shapes
    kind, _, value = gears.partition("=")
    assert option(command, kind or "dynamic_dims") == value
    assert option(command, "input_format") == ("ND" if "dims" in gears or len(inputs[0].opt) != 4 else "NCHW")


def test_only_the_shapes_of_a_set_are_compiled() -> None:
    some = TensorSpec("x", "float32", (1, 8), (1, 16), (1, 64), members=((1, 8), (1, 16), (1, 64)), batch_axis=NO_BATCH)
    assert option(made([some]), "dynamic_dims") == "8;16;64"


@pytest.mark.parametrize(
    ("precision", "second", "wanted"),
    [
        ("FP32", True, "--precision_mode_v2=origin"),
        ("FP16", True, "--precision_mode_v2=fp16"),
        ("BF16", True, "--precision_mode_v2=mixed_bfloat16"),
        ("FP32", False, "--precision_mode=must_keep_origin_dtype"),
        ("FP16", False, "--precision_mode=force_fp16"),
        ("BF16", False, "--precision_mode=allow_mix_precision_bf16"),
    ],
)
def test_a_precision_is_a_mode_of_the_generation_that_this_atc_knows(precision: str, second: bool, wanted: str) -> None:
    command = atc_command(Material(ONNX, "m.onnx", (spec("x", (1, 4)),)), SOC, precision, {}, second=second)
    assert [each for each in command.arguments if each.startswith("--precision_mode")] == [wanted]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "precision_mode_v2.*cannot stand beside"),
        (
            {"precision_mode_v2": "origin"},
            "'origin' does not compute in FP16.*fp16, mixed_float16, cube_fp16in_fp32out",
        ),
        ({"dynamic_batch_size": "1"}, "1 profiles; ATC takes 2 to 100"),
        ({"dynamic_batch_size": "2,2"}, "two profiles are the same"),
        ({"dynamic_batch_size": "1,16"}, "16 is outside of the range of axis 0 of the input 'x', 1 to 8"),
        ({"dynamic_batch_size": "1,2", "dynamic_dims": "1;2"}, "dynamic_dims.*cannot stand beside dynamic_batch_size"),
        ({"dynamic_dims": "1,4;2,4"}, "has 2 numbers, and 1 axes vary"),
        ({"dynamic_image_size": "4,4;8,8"}, "it needs the input_format NCHW or NHWC, not ND"),
        ({"input_format": "NHWC"}, "ATC takes NCHW, ND, NCDHW for this source, not NHWC"),
        ({"optypelist_for_implmode": "Pooling"}, "it needs op_select_implmode"),
        ({"output_type": "end:0:FP16"}, "types of single nodes need out_nodes"),
    ],
)
def test_a_combination_that_atc_refuses_names_the_option(knobs: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        made([models.BATCHED], knobs)
    assert caught.value.field.startswith("template.runtime_options[")


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"dynamic_batch_size": "1,0"}, "each dimension a whole number above 0"),
        ({"dynamic_dims": "1,2;"}, "like '1,128;8,128'"),
        ({"out_nodes": " a"}, "without blanks at their beginning"),
        ({"log": "loud"}, "'none', or some of debug, info, warning, error"),
        ({"op_precision_mode": "Softmax"}, "like 'SoftmaxV2=high_precision"),
        ({"auto_tune_mode": "RL"}, "has no knob 'auto_tune_mode'"),
    ],
)
def test_a_value_that_no_atc_takes_says_how_it_is_written(knobs: dict[str, str], words: str) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        made([models.BATCHED], knobs)
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_an_input_without_a_bound_is_refused_by_its_name() -> None:
    from engines.tensors.shapes import OPEN_EXTENT

    for bad in (spec("mask", (1, 4), (1, OPEN_EXTENT)), TensorSpec.unknown("mask", "float32"), spec("a;b", (1,))):
        with pytest.raises(EngineFailure, match=f"The input '{bad.name}' has") as caught:
            made([bad])
        assert "min_shape" in caught.value.suggested_fix


def test_more_than_a_hundred_profiles_are_the_users_to_choose() -> None:
    sizes = tuple((1, extent) for extent in range(1, 60))
    many = TensorSpec("x", "float32", (1, 1), (1, 1), (8, 59), members=sizes)
    with pytest.raises(InvalidField, match="236 profiles; ATC takes 2 to 100") as caught:
        made([many])
    assert "State them in this option" in caught.value.suggested_fix


@pytest.mark.parametrize(
    ("wanted", "level"), [("none", "null"), ("error", "error"), ("error,info", "info"), ("debug", "debug")]
)
def test_atc_is_asked_for_the_level_that_tells_all_that_is_wanted(wanted: str, level: str) -> None:
    assert option(made([models.BATCHED], {"log": wanted}), "log") == level


def test_the_formats_of_images_are_those_of_the_framework() -> None:
    image = [spec("x", (1, 8, 8, 3))]
    assert option(made(image, kind=FROZEN_GRAPH), "input_format") == "NHWC"
    assert option(made(image, kind=CAFFE), "input_format") == "NCHW"
    assert option(made([spec("x", (1, 3, 4, 8, 8))]), "input_format") == "NCDHW"
