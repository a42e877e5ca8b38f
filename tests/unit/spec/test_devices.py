import re

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import builds_from, runtimes
from engines.spec.devices import Catalog, Device, load_catalog
from services.platform.words import word, words

DESIGNED = {
    "cpu-x86-64",
    "cpu-arm64",
    *(f"nvidia-{chip}" for chip in ("p4", "v100", "t4", "a10", "a100", "l4", "l20", "l40s", "h100", "h200", "b200")),
    *(f"ascend-{chip}" for chip in ("310", "310p", "310b", "910b")),
}


def test_catalog_has_every_device() -> None:
    assert set(load_catalog().devices) == DESIGNED


def test_names_fit_the_api() -> None:
    from lathe.type.v1.precision_pb2 import Precision

    for device in load_catalog().devices.values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", device.id)
        assert all(key and value for key, value in device.pod.node_selector.items())
        for name, runtime in device.runtimes.items():
            assert name == runtime.name
            assert len(name) <= 63
            assert {*runtime.precisions, *runtime.quantized} <= set(words(Precision))
            assert set(runtime.quantized) <= {"INT8", "INT4"}
            assert set(runtime.precisions) <= {"FP32", "FP16", "BF16"}
            assert runtime.toolchain


def test_every_claim_says_what_it_stands_on() -> None:
    catalog = load_catalog()
    for device in catalog.devices.values():
        assert set(catalog.evidence(device)) == {"architecture", "pod", "limits"}, device.id
        for runtime in device.runtimes.values():
            claims = {*runtime.precisions, *runtime.quantized, "toolchain"}
            assert set(catalog.evidence(runtime)) == claims, (device.id, runtime.name)
    named = {name for device in catalog.devices.values() for name in _sources(device)}
    assert named == set(catalog.sources)
    documents = {
        name: words
        for name, words in catalog.sources.items()
        if name not in {"tests", "emulated", "built", "unchecked"}
    }
    assert all(re.search(r"\((developer|docs|nvidia|github|www)\.[^)]*\)", words) for words in documents.values())


def _sources(device: Device) -> set[str]:
    return {*device.sources, *(name for runtime in device.runtimes.values() for name in runtime.sources)}


def test_an_accelerators_pod_asks_for_one_and_chips_of_one_architecture_are_told_apart() -> None:
    chips = [device for device in load_catalog().devices.values() if device.is_accelerator]
    assert all(list(device.pod.resources.values()) == ["1"] for device in chips)
    assert {device.pod.image for device in load_catalog().devices.values()} == {"cpu", "nvidia", "ascend"}
    gpus = [device for device in chips if device.vendor == "nvidia"]
    assert len({device.product for device in gpus}) == len(gpus)
    assert len({str(device.pod.node_selector) for device in gpus}) == len(gpus)
    assert all(device.pod.tolerations[0].key == "nvidia.com/gpu" for device in gpus)


def test_every_builder_is_there() -> None:
    named = {name for device in load_catalog().devices.values() for name in device.buildable_runtimes}
    assert named == set(runtimes())


def test_x86_builds_for_every_runtime_and_bf16_if_the_processor_has_it() -> None:
    offered = load_catalog().device("cpu-x86-64").buildable_runtimes
    assert set(offered) == {"onnxruntime", "openvino", "inductor", "torchscript"}
    assert {name for name in offered if not builds_from(name, {"graph"})} == {"inductor", "torchscript"}
    assert all(builds_from(name, {"graph", "network"}) for name in offered)
    assert offered["inductor"].precisions_on(["avx2"]) == offered["torchscript"].precisions_on(["avx2"]) == ("FP32",)
    assert offered["onnxruntime"].precisions_on(["avx512_bf16"]) == ("FP32", "FP16")
    assert offered["openvino"].precisions_on(["avx2"]) == ("FP32", "FP16")
    assert offered["openvino"].precisions_on(["avx2", "amx_bf16"]) == ("FP32", "BF16", "FP16")


def test_integers_need_no_flags_of_the_processor() -> None:
    for runtime in load_catalog().device("cpu-x86-64").buildable_runtimes.values():
        if not builds_from(runtime.name, {"graph"}):
            continue
        assert runtime.quantized == ("INT8", "INT4")
        assert runtime.computes == {"FP16": "FP32"}


def test_no_builtin_template_has_a_quantized_precision() -> None:
    from lathe.type.v1.precision_pb2 import Precision

    from services.template.builtin import built_in_templates

    precisions = {word(Precision, template.precision) for template in built_in_templates()}
    assert precisions == {"FP32", "FP16", "BF16"}


@pytest.mark.parametrize(
    ("device", "runtime", "reason", "words"),
    [
        ("cpu-x86", "openvino", FailureReason.INVALID_SPEC, "no device 'cpu-x86'; there are cpu-x86-64, "),
        ("cpu-x86-64", "tensorrt", FailureReason.INVALID_SPEC, "no runtime 'tensorrt'; it has inductor, onnxruntime"),
    ],
)
def test_runtimes_without_a_builder_are_refused(device: str, runtime: str, reason: FailureReason, words: str) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        load_catalog().device(device).runtime(runtime)
    assert caught.value.reason is reason


def test_a_runtime_that_nothing_builds_for_yet_is_refused() -> None:
    known = load_catalog().device("nvidia-t4")
    planned = known.runtimes["tensorrt"].model_copy(update={"built": ""})
    device = known.model_copy(update={"runtimes": {**known.runtimes, "tensorrt": planned}})
    with pytest.raises(EngineFailure, match="no builder for 'tensorrt' on 'nvidia-t4'") as caught:
        device.runtime("tensorrt")
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE


@pytest.mark.parametrize(
    "change",
    [
        *("precisions: [FP33]", "presicions: [FP32]", "toolchain: 3"),
        *("quantized: [FP32]", "computes: {FP16: FP32}", "precision_flags: {BF16: [x]}"),
    ],
)
def test_mistakes_in_the_catalog_are_found(change: str) -> None:
    head = "cpu:\n  vendor: x\n  description: x\n  architecture: x\n"
    limits = "  pod: {image: cpu, node_selector: {}}\n  memory_limit_bytes: 1\n  timeout_seconds: 1\n"
    text = f"{head}{limits}  runtimes:\n    r:\n      toolchain: [x]\n      precisions: [FP32]\n"
    assert Catalog.parse(text).device("cpu").runtimes["r"].precisions == ("FP32",)
    with pytest.raises(ValueError, match="runtimes"):
        Catalog.parse(text.replace(f"{change.split(':', maxsplit=1)[0]}:", "was:") + f"      {change}\n")
