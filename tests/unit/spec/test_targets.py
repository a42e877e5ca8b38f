"""Rules about devices, runtimes, precisions and versions, which services and engines share."""

import pytest

from engines.failures import FailureReason, InvalidField
from engines.runtimes import targets as runtime_targets
from engines.runtimes.targets import check_forms, check_options, quantization_target, reading_runtime
from engines.spec import targets
from engines.spec.targets import check_engines, check_goal, conversion_target
from engines.spec.template import check_judged
from engines.spec.toolchain import version_of
from services.platform.errors import LatheError, engine_rules
from tests.unit.spec.planned import with_planned

X86 = "cpu-x86-64"


def test_valid_targets_are_runtimes_of_the_catalog() -> None:
    assert conversion_target(X86, "openvino", "BF16").name == "openvino"
    assert quantization_target(X86, "onnxruntime", "INT8").name == "onnxruntime"
    assert quantization_target(X86, "openvino", "BF16").name == "openvino"
    check_forms(X86, "inductor", "PTH", {"network", "graph"})
    assert reading_runtime(X86) == "onnxruntime"
    check_goal(X86, "INT8")
    assert check_engines("") == check_engines(version_of("lathe")) == version_of("lathe")


@pytest.mark.parametrize(
    ("target", "field", "code", "words"),
    [
        (
            ("toaster", "openvino", "FP32"),
            "device",
            "UNKNOWN_DEVICE",
            "there is no device 'toaster'; there are",
        ),
        ((X86, "tensorrt", "FP32"), "runtime", "UNKNOWN_RUNTIME", "has no runtime 'tensorrt'; it has inductor"),
        (
            (X86, "onnxruntime", "BF16"),
            "precision",
            "UNSUPPORTED_PRECISION",
            "does not compute in BF16; it offers",
        ),
        ((X86, "onnxruntime", "INT8"), "precision", "UNSUPPORTED_PRECISION", "does not compute in INT8"),
        (("cpu-arm64", "litert", "BF16"), "precision", "UNSUPPORTED_PRECISION", "litert on cpu-arm64 does not compute"),
    ],
)
def test_invalid_conversion_targets_name_field_and_code(
    target: tuple[str, str, str], field: str, code: str, words: str
) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        conversion_target(*target)
    assert (caught.value.field, caught.value.code) == (field, code)


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"streams": "2", "stream": "2"}, "stream", "has no knob 'stream'; it has binding, graph, spinning, streams"),
        ({"threads": "0"}, "threads", "takes a whole number above 0, not '0'"),
        ({"weights": "int8"}, "weights", "has no knob 'weights'"),  # the precision says what is in integers
    ],
)
def test_an_option_that_a_runtime_does_not_have_is_refused_with_those_that_it_has(
    options: dict[str, str], field: str, words: str
) -> None:
    check_options("onnxruntime", {"streams": "2", "spinning": "off"})
    with pytest.raises(InvalidField, match=words) as caught:
        check_options("onnxruntime", options)
    assert caught.value.field == f"runtime_options[{field}]"
    with pytest.raises(LatheError) as told, engine_rules("template"):
        check_options("onnxruntime", options)
    assert told.value.fields[0][0] == f"template.runtime_options[{field}]"


def test_a_runtime_that_nothing_builds_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (targets, runtime_targets):
        monkeypatch.setattr(module, "load_catalog", lambda: with_planned("nvidia-t4"))
    with pytest.raises(InvalidField, match="no builder for 'tensorrt' on 'nvidia-t4'") as caught:
        conversion_target("nvidia-t4", "tensorrt", "FP32")
    assert (caught.value.field, caught.value.code) == ("runtime", "UNKNOWN_RUNTIME")
    with pytest.raises(InvalidField, match="builds nothing for nvidia-t4; it does for: cpu-x86-64") as device:
        reading_runtime("nvidia-t4")
    assert (device.value.field, device.value.reason) == ("device", FailureReason.TOOLCHAIN_UNAVAILABLE)


@pytest.mark.parametrize(
    ("device", "runtime", "precision"),
    [("nvidia-p4", "tensorrt", "FP16"), ("nvidia-t4", "tensorrt", "BF16"), ("ascend-310", "ascend", "BF16")],
)
def test_a_precision_that_a_chip_lacks_is_refused_with_those_that_it_has(
    device: str, runtime: str, precision: str
) -> None:
    with pytest.raises(
        InvalidField, match=f"{runtime} on {device} does not compute in {precision}; it offers"
    ) as caught:
        conversion_target(device, runtime, precision)
    assert (caught.value.field, caught.value.reason) == ("precision", FailureReason.UNSUPPORTED_PRECISION)


def test_another_precision_comes_with_advice() -> None:
    with pytest.raises(InvalidField) as bf16:
        conversion_target(X86, "onnxruntime", "BF16")
    assert "BF16 there is offered by openvino, inductor, torchscript" in bf16.value.suggested_fix
    with pytest.raises(InvalidField) as int8:
        conversion_target(X86, "onnxruntime", "INT8")
    assert "create a quantization task with INT8" in int8.value.suggested_fix


@pytest.mark.parametrize(
    ("target", "field", "words"),
    [
        ((X86, "onnxruntime", "FP32"), "precision", "FP32 needs no quantization"),
        ((X86, "torchscript", "INT8"), "runtime", "it can for: onnxruntime, openvino"),
        ((X86, "onnxruntime", "BF16"), "precision", "it offers INT8, INT4, FP16"),
    ],
)
def test_invalid_quantization_targets_are_refused(target: tuple[str, str, str], field: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        quantization_target(*target)
    assert caught.value.field == field


def test_other_rules_name_their_fields() -> None:
    with pytest.raises(InvalidField, match="ONNX offers a graph only; runtimes that take it: onnxruntime") as forms:
        check_forms(X86, "inductor", "ONNX", {"graph"})
    with pytest.raises(InvalidField, match="INT4 is no goal of a search for cpu-x86-64; goals are FP32") as goal:
        check_goal(X86, "INT4")
    with pytest.raises(InvalidField, match=r"no version '0\.0\.0' of the engines here; there is: ") as engines:
        check_engines("0.0.0")
    with pytest.raises(InvalidField, match="this one has 2") as several:
        check_judged(2, "classification", "metric")
    with pytest.raises(InvalidField, match="method raw, whose outputs cannot be judged") as raw:
        check_judged(1, "raw", "accuracy")
    found = [caught.value.field for caught in (forms, goal, engines, several, raw)]
    assert found == ["runtime", "precision_goal", "engine_version", "metric", "accuracy"]
    assert engines.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE


def test_services_answer_with_the_field_of_the_request() -> None:
    with pytest.raises(LatheError) as caught, engine_rules("task.spec"):
        conversion_target(X86, "onnxruntime", "BF16")
    field, description = caught.value.fields[0]
    assert (field, caught.value.reason) == ("task.spec.precision", "UNSUPPORTED_PRECISION")
    assert description.startswith(
        "onnxruntime on cpu-x86-64 does not compute in BF16; it offers FP32, FP16. Choose one"
    )
    with pytest.raises(LatheError) as plain, engine_rules("template"):
        raise InvalidField("name", "it is empty").under("components.net")
    assert plain.value.message == "template.components.net.name: it is empty"
    assert plain.value.reason == "INVALID_ARGUMENT"


def test_any_version_of_the_engines_is_accepted_if_theirs_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda package: None)  # as it does for unreadable metadata
    assert version_of("lathe") == ""
    assert check_engines("0.2.0") == ""
