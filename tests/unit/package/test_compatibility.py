"""Whether a package can run on a machine: each rule, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.package.compatibility import Judgement, Machine, judge, parse_version
from engines.package.manifest import Manifest
from engines.runtimes import ROOMS
from engines.runtimes.inductor.serving import VECTOR_FLAGS
from engines.spec.devices import load_catalog
from tests.unit.package.test_manifest import MANIFEST

NO_FLAGS: dict[str, Any] = {"architecture": "x86_64", "packages": {}, "cpu_flags_any": []}


def ask(machine: Machine, runtime: str = "openvino", version: str = "2026.4.0", **manifest: Any) -> Judgement:
    values = MANIFEST | {"runtime": {"name": runtime, "version": version}} | manifest
    return judge(Manifest.model_validate(values), machine, load_catalog())


def test_an_unknown_machine_is_not_refused() -> None:
    found = ask(Machine())
    assert found.compatible
    assert len(found.checks) == 3
    assert all("given" in check or "needs no processor flag" in check for check in found.checks)


@pytest.mark.parametrize(
    ("runtime", "built", "has", "right", "words"),
    [
        ("openvino", "2026.4.0", "2026.4.0-21000-abcdef", True, "the same"),
        ("openvino", "2026.4.0", "2026.5.1", True, "was not verified there"),
        ("openvino", "2026.4.0", "2027.0.0", True, "another major version"),
        ("openvino", "2026.4.0", "2026.3.0", False, "Use 2026.4.0 or a newer one"),
        ("openvino", "2026.4", "2026.4.0", True, "the same"),
        ("onnxruntime", "1.31.1", "1.31.0", True, "an older patch"),
        ("onnxruntime", "1.31.1", "1.9.5", False, "may lack"),
        ("onnxruntime", "1.31.1", "1.40.0+cpu", True, "newer"),
        ("torchscript", "2.13.0", "2.14.0", True, "newer"),
        ("torchscript", "2.13.0", "3.0.0", False, "beyond major version 2"),
        ("tensorrt", "10.4.0", "10.4.1", False, "only what its own version has built"),
        ("tensorrt", "10.4.0", "10.4.0", True, "the same"),
        ("homemade", "1.0", "1.1", False, "only what its own version has built"),
        ("openvino", "", "2026.4.0", False, "does not say which openvino"),
    ],
)
def test_versions_are_judged_by_the_promise_of_the_vendor(
    runtime: str, built: str, has: str, right: bool, words: str
) -> None:
    found = ask(Machine(runtime_version=has), runtime, built)
    assert found.compatible is right
    assert words in " ".join(found.checks if right else found.reasons)


def test_a_version_that_cannot_be_read_is_refused() -> None:
    for text in ("newest", "v", "..", "1.x.2", "-1", "9" * 90):
        with pytest.raises(EngineFailure) as caught:
            ask(Machine(runtime_version=text))
        assert caught.value.reason is FailureReason.INVALID_SPEC
        assert "write it like 2026.4.0" in caught.value.message


def test_an_unknown_device_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(EngineFailure, match="there are cpu-x86-64, cpu-arm64"):
        ask(Machine(device="cpu"))


def test_a_package_runs_only_on_its_own_architecture() -> None:
    assert ask(Machine(device="cpu-x86-64")).compatible
    found = ask(Machine(device="cpu-arm64"))
    assert found.reasons[0] == "The package needs x86_64, and cpu-arm64 is aarch64."
    assert "cpu-arm64 has no runtime openvino" in found.reasons[1]


def test_packages_for_accelerators_are_judged_by_the_catalog() -> None:
    built = {"device": "nvidia-a100", "precision": "FP16", "requirements": NO_FLAGS}
    same = ask(Machine(device="nvidia-a100", driver_version="570.1"), "tensorrt", "10.4.0", **built)
    assert same.compatible
    assert any("does not say which driver" in check for check in same.checks)
    other = ask(Machine(device="nvidia-t4"), "tensorrt", "10.4.0", **built)
    assert other.reasons == ["The package needs sm_80, and nvidia-t4 is sm_75."]
    older = ask(Machine(device="nvidia-p4"), "tensorrt", "10.4.0", **built | {"device": "nvidia-p4"})
    assert older.reasons == ["tensorrt on nvidia-p4 does not compute in FP16; it offers FP32, INT8."]
    ascend = {"device": "ascend-310", "precision": "FP16", "requirements": NO_FLAGS}
    assert ask(Machine(device="ascend-310"), "ascend", "8.0", **ascend).compatible
    assert not ask(Machine(device="ascend-310p"), "ascend", "8.0", **ascend).compatible


def test_a_plan_for_another_chip_or_version_is_refused_and_one_for_a_chip_of_the_same_architecture_is_told() -> None:
    built: dict[str, Any] = {"device": "nvidia-l4", "precision": "FP16", "requirements": NO_FLAGS}
    for other in ("nvidia-a10", "nvidia-h100", "nvidia-b200"):
        refused = ask(Machine(device=other), "tensorrt", "10.4.0", **built).reasons
        assert refused[0].startswith(f"The package needs sm_89, and {other} is sm_")
    sibling = ask(Machine(device="nvidia-l40s"), "tensorrt", "10.4.0", **built)
    assert sibling.compatible
    assert any("another chip than nvidia-l4" in words and "neither" in words for words in sibling.checks)
    assert not any("another chip" in words for words in ask(Machine(device="nvidia-l4"), "tensorrt", **built).checks)
    newer = ask(Machine(device="nvidia-l4", runtime_version="11.1.0"), "tensorrt", "10.4.0", **built)
    assert "Build it again" in newer.reasons[0]
    compiled = {"device": "ascend-310p", "precision": "FP16", "requirements": NO_FLAGS}
    for other in ("ascend-310", "ascend-310b", "ascend-910b", "nvidia-t4"):
        assert not ask(Machine(device=other), "ascend", "8.0", **compiled).compatible


def test_what_nobody_has_seen_compute_is_said() -> None:
    (component,) = MANIFEST["components"]
    unseen: dict[str, Any] = {
        "components": [component | {"parity": {"verdict": "UNVERIFIED", "missing": "a run on a T4"}}]
    }
    for version in ("", "2026.4.0"):
        checks = " ".join(ask(Machine(device="cpu-x86-64", runtime_version=version), **unseen).checks)
        assert "UNVERIFIED: nobody has seen it compute" in checks
        assert "the package was made with" in checks
        assert "was verified with" not in checks


def test_a_package_may_need_one_of_several_processor_flags() -> None:
    needs = NO_FLAGS | {"cpu_flags_any": ["avx512_bf16", "amx_bf16"]}
    found = ask(Machine(cpu_flags=("fpu avx2 AMX_BF16",)), precision="BF16", requirements=needs)
    assert found.compatible
    assert "The machine has amx_bf16" in " ".join(found.checks)
    lacking = ask(Machine(cpu_flags=("avx2",)), precision="BF16", requirements=needs)
    assert lacking.reasons == [
        "The package needs one of the processor flags amx_bf16, avx512_bf16 for BF16; the machine has none of them."
    ]
    # What the package does not say, the catalog does.
    assert not ask(Machine(cpu_flags=("avx2",)), precision="BF16", requirements=NO_FLAGS).compatible
    assert ask(Machine(), precision="BF16", requirements=needs).compatible


def test_every_runtime_of_the_catalog_has_a_rule() -> None:
    named = {name for device in load_catalog().devices.values() for name in device.runtimes}
    assert named == set(ROOMS)


@given(st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=6))
def test_versions_are_read_as_numbers(numbers: list[int]) -> None:
    read = parse_version(".".join(map(str, numbers)))
    assert read is not None
    padded = numbers + [0] * (6 - len(numbers))
    assert list(read) + [0] * (6 - len(read)) == padded


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    read = parse_version(text)
    assert read is None or (len(read) >= 3 and all(number >= 0 for number in read))


def test_a_form_that_was_compiled_for_wide_vectors_needs_all_of_their_flags() -> None:
    (component,) = MANIFEST["components"]
    compiled = {"components": [component | {"options": {"cpu_capability": "AVX512"}}]}
    every = ["fpu", *VECTOR_FLAGS["AVX512"]]
    assert ask(Machine(cpu_flags=every), "inductor", "2.13.0", **compiled).compatible
    assert any(
        "No processor flags were given" in check for check in ask(Machine(), "inductor", "2.13.0", **compiled).checks
    )
    found = ask(Machine(cpu_flags=[flag for flag in every if flag != "avx512vl"]), "inductor", "2.13.0", **compiled)
    assert any("the machine lacks avx512vl" in reason for reason in found.reasons)


ENCODER = MANIFEST["components"][0] | {"name": "encoder", "runtime": {"name": "onnxruntime", "version": "1.31.1"}}
DECODER = MANIFEST["components"][0] | {"name": "decoder", "precision": "BF16"}


def test_every_component_is_judged_by_its_own_runtime_and_named() -> None:
    parts: dict[str, Any] = {"components": [ENCODER, DECODER]}
    versions = {"onnxruntime": "1.31.1", "openvino": "2026.3.0"}
    found = ask(Machine(device="cpu-arm64", runtime_versions=versions, cpu_flags=["avx2"]), **parts)
    told = " ".join(found.reasons)
    assert "no runtime openvino, which component 'decoder' needs" in told
    assert "The machine has openvino 2026.3.0, component 'decoder' was verified with 2026.4.0" in told
    assert "Component 'decoder' needs one of the processor flags amx_bf16, avx512_bf16 for BF16" in told
    assert "encoder" not in told
    assert any("component 'encoder' was verified with 1.31.1: the same" in check for check in found.checks)
    compiled = {**ENCODER, "runtime": {"name": "inductor", "version": "2.13.0"}, "options": {"cpu_capability": "AVX2"}}
    found = ask(Machine(cpu_flags=["avx512_bf16"]), components=[compiled, DECODER])
    assert [reason.partition(" needs")[0] for reason in found.reasons] == ["Component 'encoder'"]


def test_components_of_one_runtime_are_named_together() -> None:
    other = {**ENCODER, "name": "head"}
    found = ask(Machine(runtime_versions={"onnxruntime": "1.20"}), components=[ENCODER, other, DECODER])
    assert ["each of the components 'encoder', 'head' was" in reason for reason in found.reasons] == [True]
