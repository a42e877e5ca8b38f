"""What a caller is told when files cannot be read."""

import grpc
import pytest
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX, GraphDescription, ModelDescription, ModelFormat
from lathe.type.v1.tensor_pb2 import TensorSpec

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from services.platform.errors import LatheError
from services.platform.words import number, words
from services.registry import descriptions


@pytest.mark.parametrize(
    ("reason", "code", "told"),
    [
        (FailureReason.INVALID_MODEL, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MODEL"),
        (FailureReason.UNSAFE_MODEL, grpc.StatusCode.INVALID_ARGUMENT, "UNSAFE_MODEL"),
        (FailureReason.TOOLCHAIN_CRASHED, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MODEL"),
        (FailureReason.OUT_OF_MEMORY, grpc.StatusCode.FAILED_PRECONDITION, "MODEL_TOO_LARGE"),
        (FailureReason.TIMEOUT, grpc.StatusCode.FAILED_PRECONDITION, "MODEL_TOO_LARGE"),
        (FailureReason.TOOLCHAIN_UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION, "TOOLCHAIN_UNAVAILABLE"),
    ],
)
def test_failures_of_the_file_are_told(reason: FailureReason, code: grpc.StatusCode, told: str) -> None:
    refusal = descriptions.refusal(EngineFailure(reason, "Bad.", evidence="Seen.", suggested_fix="Do."))
    assert isinstance(refusal, LatheError)
    assert (refusal.code, refusal.reason) == (code, told)
    if reason is FailureReason.TOOLCHAIN_UNAVAILABLE:  # what was seen then is a traceback through this installation
        assert "Bad. Its operators" in refusal.message
    elif told == "MODEL_TOO_LARGE":  # there is no task whose limits could be raised
        assert refusal.message.endswith("weights are not read. Bad.")
    else:
        assert "Bad. Seen. Do." in refusal.message


def test_failures_of_the_service_stay_what_they_are() -> None:
    failure = EngineFailure(FailureReason.INTERNAL_ERROR, "Bad.")
    assert descriptions.refusal(failure) is failure


@pytest.mark.parametrize("graph", [{"path": "\ud800"}, {"parameter_count": 2**70}])
def test_what_no_message_can_say_is_the_fault_of_the_files(graph: dict[str, object]) -> None:
    with pytest.raises(LatheError, match="impossible values") as caught:
        descriptions.description_of({"graphs": [graph]})
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MODEL")


@pytest.mark.parametrize("name", words(ModelFormat))
def test_every_format_is_read_or_refused(name: str) -> None:
    if name in FORMATS:
        descriptions.require_described(number(ModelFormat, name))
    else:
        with pytest.raises(LatheError, match="These can: PTH"):
            descriptions.require_described(number(ModelFormat, name))


def test_a_description_is_completed_with_its_json() -> None:
    description = ModelDescription(
        format=MODEL_FORMAT_ONNX, graphs=[GraphDescription(path="a.onnx", parameter_count=3)]
    )
    done = descriptions.complete(description, "models/a/versions/1")
    assert done.model_version == "models/a/versions/1"
    assert '"parameter_count":' in done.json


def _state_dict() -> GraphDescription:
    tensors = [TensorSpec(name=f"layer.{number:06}.{'w' * 185}", dtype="float32") for number in range(10_000)]
    return GraphDescription(parameters=tensors)


def test_a_long_description_has_no_json() -> None:
    done = descriptions.complete(ModelDescription(graphs=[_state_dict()]), "models/a/versions/1")
    assert not done.json
    assert len(done.graphs[0].parameters) == 10_000


def test_a_description_stays_under_the_limit_of_a_message() -> None:
    done = descriptions.complete(ModelDescription(graphs=[_state_dict() for _ in range(3)]), "models/a/versions/1")
    assert done.ByteSize() < 4 << 20
    assert all(graph.parameters for graph in done.graphs)
