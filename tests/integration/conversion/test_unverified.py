"""Forms that do not run on the machine that builds them: never a pass, never a time.

ONNX Runtime stands in for a runtime of another device here: it builds, and says that its forms run elsewhere.
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from lathe.internal.v1.conversion_pb2 import ConversionOutcome
from lathe.type.v1.measurement_pb2 import VERDICT_PASS, VERDICT_UNVERIFIED

from engines.failures import EngineFailure
from engines.package.manifest import read_manifest
from engines.runtimes import Where
from engines.runtimes.onnxruntime.runtime import OnnxRuntime
from engines.tensors.signature import TensorSpec
from services.platform.words import from_values
from tests.integration.conversion.workbench import CNN, Bench


def converted(bench: Bench, **parts: Any) -> Any:
    bench.put_network(CNN)
    return from_values(bench.convert(bench.request(runtime="onnxruntime", **parts)), ConversionOutcome()).components[0]


def test_what_runs_on_the_device_alone_is_built_and_unverified(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "where", lambda *_: Where.DEVICE)
    monkeypatch.setattr(OnnxRuntime, "open", lambda *_: pytest.fail("it was opened"))
    # A handler of its own: frameworks change those of the root, and torch keeps the stream that it is imported with.
    written = io.StringIO()
    monkeypatch.setattr(logging.getLogger("engines"), "handlers", [logging.StreamHandler(written)])
    component = converted(bench)
    parity = component.parity
    assert parity.verdict == VERDICT_UNVERIFIED
    assert "a worker for cpu-x86-64" in parity.missing
    assert (parity.device, parity.verified_on, parity.samples, list(parity.outputs)) == ("", "", 0, [])
    assert not component.HasField("profile")
    assert "UNVERIFIED: missing is" in written.getvalue()
    entry = read_manifest(bench.package).components[0]
    assert entry.parity["verdict"] == "UNVERIFIED"
    assert [output.name for output in entry.signature.outputs] == ["output_0"]
    assert entry.signature.outputs[0].shape.max[0] == 4  # type: ignore[union-attr]
    assert json.loads((bench.package / "report.json").read_text()) == {}
    assert "**UNVERIFIED: nobody has seen this form compute.** Missing: " in (bench.package / "README.md").read_text()
    ran = subprocess.run([sys.executable, bench.package / "infer.py"], capture_output=True, text=True, check=True)
    assert "UNVERIFIED: nobody has seen this form compute; missing: " in ran.stderr


def made_elsewhere(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> str:
    """Convert on a machine that is not the device, and return where the package is for a worker that is."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(OnnxRuntime, "where", lambda *_: Where.DEVICE)
        assert converted(bench).parity.verdict == VERDICT_UNVERIFIED
    return bench.package.rename(bench.workdir / "built").name


def test_the_device_goes_on_from_what_was_built_elsewhere(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    built = made_elsewhere(bench, monkeypatch)
    monkeypatch.setattr(OnnxRuntime, "build", lambda *_: pytest.fail("it was built again"))
    request = bench.request(runtime="onnxruntime") | {"built": built}
    component = from_values(bench.convert(request), ConversionOutcome()).components[0]
    assert (component.parity.verdict, component.parity.device) == (VERDICT_PASS, "cpu-x86-64")
    assert component.parity.verified_on
    assert component.HasField("profile")
    first, second = (read_manifest(folder) for folder in (bench.workdir / built, bench.package))
    (before,), (after,) = first.components, second.components
    assert after.model_copy(update={"parity": before.parity}) == before
    assert all(
        (bench.package / name).read_bytes() == (bench.workdir / built / name).read_bytes() for name in after.files
    )
    assert "Parity with the source: PASS on " in (bench.package / "README.md").read_text()


def test_what_does_not_open_on_the_device_is_built_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    built = made_elsewhere(bench, monkeypatch)
    (bench.workdir / built / "net" / "model.onnx").write_bytes(b"of another version")
    (bench.workdir / built / "net" / "more").write_bytes(b"")
    request = bench.request(runtime="onnxruntime") | {"built": built}
    component = from_values(bench.convert(request), ConversionOutcome()).components[0]
    assert component.parity.verdict == VERDICT_PASS
    assert sorted(path.name for path in (bench.package / "net").iterdir()) == ["model.onnx"]


def test_a_package_of_something_else_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    built = made_elsewhere(bench, monkeypatch)
    request = bench.request(runtime="onnxruntime") | {"built": built}
    request["template"]["components"][0]["name"] = "other"
    request["architectures"]["other"] = request["architectures"].pop("net")
    with pytest.raises(EngineFailure, match="has no component 'other'"):
        bench.convert(request)


def test_an_emulator_gives_parity_and_no_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "where", lambda *_: Where.EMULATOR)
    monkeypatch.setattr(OnnxRuntime, "runs_on", lambda *_: "an emulator")
    component = converted(bench)
    parity = component.parity
    assert (parity.verdict, parity.device, parity.verified_on) == (VERDICT_PASS, "", "an emulator")
    assert not component.HasField("profile")
    assert "Parity with the source: PASS on an emulator." in (bench.package / "README.md").read_text()


def test_a_form_that_takes_other_inputs_is_compared_with_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    build, images = OnnxRuntime.build, TensorSpec.fixed("image", "uint8", (1, 12, 8))
    monkeypatch.setattr(OnnxRuntime, "build", lambda *given: replace(build(*given), inputs=(images,)))
    monkeypatch.setattr(OnnxRuntime, "open", lambda *_: pytest.fail("it was opened"))
    parity = converted(bench).parity
    assert (parity.verdict, "takes inputs of its own" in parity.missing) == (VERDICT_UNVERIFIED, True)
    (taken,) = read_manifest(bench.package).components[0].signature.inputs
    assert (taken.dtype, taken.shape and taken.shape.max) == ("uint8", (1, 12, 8))
