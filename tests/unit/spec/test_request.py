"""Requests: protobuf's JSON is read, and invalid requests are refused by field."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from lathe.internal.v1.conversion_pb2 import ConversionWork

from engines.failures import EngineFailure, FailureReason
from engines.package.content import template_digest
from engines.spec.request import ConversionRequest
from engines.spec.source_files import file_inside
from engines.spec.tolerances import TOLERANCES
from services.platform.words import from_values

MINIMAL: dict[str, Any] = {
    "inputs": [{"path": "source/a.pth"}],
    "template": {
        "source_format": "PTH",
        "device": "cpu-x86-64",
        "runtime": "openvino",
        "components": [{"name": "net", "inputs": [{"name": "x", "shape": ["1", "3"]}]}],
    },
    "architectures": {"net": {"class_name": "Net", "function": "build", "source_path": "architecture/a.py"}},
}


def changed(**values: Any) -> dict[str, Any]:
    template = {**MINIMAL["template"], **values}
    return {**MINIMAL, "template": template}


def component(**values: Any) -> dict[str, Any]:
    return changed(components=[{**MINIMAL["template"]["components"][0], **values}])


def refusal(values: dict[str, Any]) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        ConversionRequest.parse(values)
    return caught.value


def test_defaults_are_filled_in() -> None:
    request = ConversionRequest.parse(MINIMAL)
    template = request.template
    assert (template.arithmetic, template.components[0].largest_batch) == ("FP32", 1)
    assert template.components[0].inputs[0].shape == (1, 3)
    assert template.tolerance("FP32") == TOLERANCES["FP32"]
    strict = ConversionRequest.parse(changed(precision="BF16", error_threshold="0.01")).template
    assert strict.tolerance("BF16") == TOLERANCES["BF16"].at(0.01)
    assert strict.tolerance("FP32") == TOLERANCES["FP32"]


@given(seed=st.integers(0, 2**62), batch=st.integers(0, 1000), threshold=st.floats(0, 1, width=32))
def test_a_protobuf_message_is_read_unchanged(seed: int, batch: int, threshold: float) -> None:
    work = from_values(component(max_batch=batch), ConversionWork())
    work.seed = seed
    work.template.error_threshold = threshold
    work.template.args["boxes"].vi.values.extend([1, 2])
    request = ConversionRequest.parse(MessageToDict(work, preserving_proto_field_name=True))
    assert request.seed == seed
    assert request.template.error_threshold == threshold
    assert request.template.components[0].max_batch == batch
    assert request.template.args["boxes"] == {"vi": {"values": ["1", "2"]}}


@pytest.mark.parametrize(
    ("values", "reason", "words"),
    [
        (changed(device="toaster"), "INVALID_SPEC", "'device' is wrong: there is no device 'toaster'"),
        (changed(runtime="tensorrt"), "INVALID_SPEC", "has no runtime 'tensorrt'"),
        (changed(runtime="onnxruntime", precision="BF16"), "UNSUPPORTED_PRECISION", "does not compute in BF16"),
        (changed(components=[]), "INVALID_SPEC", "template.components"),
        (changed(components=MINIMAL["template"]["components"] * 2), "INVALID_SPEC", "names are unique"),
        (component(inputs=[{"name": "x", "shape": [0, 3]}], max_batch=1), "INVALID_SPEC", "axis"),
        (component(inputs=[{"name": "x", "shape": [1, -3]}]), "INVALID_SPEC", "extent -3"),
        (component(inputs=[{"name": "x", "shape": [1, 2**30]}]), "INVALID_SPEC", "elements"),
        (component(inputs=[{"name": "x", "sample_min": 2, "sample_max": 1}]), "INVALID_SPEC", "sample_min 2.0 is over"),
        ({**MINIMAL, "seed": "many"}, "INVALID_SPEC", "'seed'"),
        ({}, "INVALID_SPEC", "'template'"),
    ],
)
def test_invalid_requests_are_refused_by_field(values: dict[str, Any], reason: str, words: str) -> None:
    found = refusal(values)
    assert found.reason is FailureReason(reason)
    assert words in found.message


def test_an_unoffered_precision_names_the_runtimes_that_offer_it() -> None:
    assert "openvino" in refusal(changed(runtime="onnxruntime", precision="BF16")).suggested_fix


def test_paths_stay_in_the_work_directory(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "secret").write_text("x")
    with pytest.raises(EngineFailure, match="leads out of the work directory"):
        file_inside(tmp_path / "work", "../secret")
    with pytest.raises(EngineFailure, match="is not in the work directory") as caught:
        file_inside(tmp_path / "work", "absent")
    assert caught.value.reason is FailureReason.INPUT_UNAVAILABLE


def test_the_template_digest_covers_the_content_but_not_the_name() -> None:
    plain, named, other = (
        template_digest(ConversionRequest.parse(changed(**values)))
        for values in ({}, {"name": "templates/a"}, {"error_threshold": 0.5})
    )
    assert plain == named != other
