import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.tensors.shapes import OPEN_EXTENT, Shape, check_shape, format_extents, format_shape
from engines.tensors.signature import DTYPES, Signature, TensorSpec

SHAPES = st.lists(st.integers(1, 20), min_size=1, max_size=6).map(tuple)


@st.composite
def specs(draw: st.DrawFn) -> TensorSpec:
    name, dtype = draw(st.text(min_size=1, max_size=200)), draw(st.sampled_from(DTYPES))
    if draw(st.booleans()):
        return TensorSpec.unknown(name, dtype)
    axes = draw(st.lists(st.tuples(*[st.integers(1, OPEN_EXTENT)] * 3).map(sorted), max_size=8))
    low, tuned, high = (tuple(axis[part] for axis in axes) for part in range(3))
    return TensorSpec(name, dtype, low, tuned, high)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 0, 3), r"1\*0\*3, has the extent 0 on axis 1"),
        ((1, -3), "has the extent -3 on axis 1"),
        ((1, 1000, 1000, 1000), "has 1000000000 elements"),
    ],
)
def test_impossible_shapes(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        check_shape(shape)
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_message_names_the_tensor() -> None:
    with pytest.raises(EngineFailure, match=r"The shape of 'image', 0\*3, has the extent 0 on axis 0"):
        TensorSpec.fixed("image", "float32", (0, 3))
    assert check_shape(()) == ()
    assert format_shape(()) == "scalar"


@given(st.lists(specs(), max_size=3), st.lists(specs(), max_size=3))
def test_json_form_goes_there_and_back(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    signature = Signature(tuple(inputs), tuple(outputs))
    assert Signature.from_dict(signature.to_dict()) == signature


@given(st.lists(specs(), max_size=3))
def test_json_form_is_that_of_the_proto(inputs: list[TensorSpec]) -> None:
    from google.protobuf.json_format import MessageToDict
    from lathe.type.v1.tensor_pb2 import TensorSignature

    from services.platform.words import from_values

    signature = Signature(tuple(inputs), ())
    message = from_values(signature.to_dict(), TensorSignature())
    assert Signature.from_dict(MessageToDict(message, preserving_proto_field_name=True)) == signature


@given(SHAPES, st.integers(1, 64))
def test_batched_makes_axis_0_dynamic(shape: tuple[int, ...], batch: int) -> None:
    shape = shape[:5]
    spec = TensorSpec.fixed("x", "float32", shape).batched(batch)
    assert (spec.min[0], spec.max[0]) == (1, batch)
    assert spec.opt[0] == min(shape[0], batch)
    assert spec.min[1:] == spec.opt[1:] == spec.max[1:] == shape[1:]
    assert spec.dynamic_axes == ((0,) if batch > 1 else ())


def test_impossible_batches_are_refused() -> None:
    spec = TensorSpec.fixed("x", "float32", (1, 2**20))
    with pytest.raises(EngineFailure, match="has 1073741824 elements"):
        spec.batched(1024)
    with pytest.raises(EngineFailure, match="at least 1"):
        spec.batched(0)
    with pytest.raises(EngineFailure, match="no batch axis"):
        TensorSpec.fixed("scalar", "float32", ()).batched(2)


@pytest.mark.parametrize(
    ("dtype", "profile", "words"),
    [
        ("float", ((1,), (1,), (1,)), "element type 'float'"),
        ("float32", ((1,), (1, 2), (1,)), "differ in their number of axes"),
        ("float32", ((1,), (3,), (2,)), "min 1, opt 3, max 2"),
        ("float32", ((0,), (1,), (2,)), "axis 0"),
    ],
)
def test_specs_that_contradict_themselves(dtype: str, profile: tuple[Shape, Shape, Shape], words: str) -> None:
    with pytest.raises(EngineFailure, match=words):
        TensorSpec("x", dtype, *profile)


def test_dtypes_are_those_of_the_proto() -> None:
    from lathe.type.v1.tensor_pb2 import TensorSpec as Message

    options = Message.DESCRIPTOR.fields_by_name["dtype"].GetOptions()
    listed = str(options)
    assert all(f'"{dtype}"' in listed for dtype in DTYPES)


def test_shapes_are_written_as_users_read_them() -> None:
    assert format_extents((), ()) == "scalar"
    assert format_extents((1, 3), (8, 3)) == "1..8*3"
    assert format_extents((1, 3, 1, 2), (OPEN_EXTENT, 3, OPEN_EXTENT, OPEN_EXTENT), ("batch",)) == (
        "any (batch)*3*any*at least 2"
    )
    assert format_extents((1, 3), (8, 3), ("batch", "")) == "1..8*3"
