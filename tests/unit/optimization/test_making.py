"""Specs become forms that compute what the source computes, and nothing but failures leaves the maker."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats.preparation import Prepared
from engines.formats.source import Source, SourceGraph
from engines.runtimes import open_form
from engines.runtimes.candidates import Situation
from engines.runtimes.form import FormSpec, Made
from engines.search.entry import Entry
from engines.search.making import Maker
from engines.search.packaging import package_form
from engines.search.plan import baselines
from engines.search.truth import Thresholds, Truth
from engines.spec.template import Component
from engines.timing.paired import Latency, ProfileReport
from tests.unit.optimization import forms
from tests.unit.runtimes.building import CPU


def network() -> Prepared:
    """Return a component whose source is a torch network."""
    import torch

    net = (
        torch.nn.Sequential(torch.nn.Linear(forms.WIDTH, forms.WIDTH), torch.nn.ReLU())
        .eval()
        .requires_grad_(requires_grad=False)
    )

    class Flat(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (net(x),)

    source = Source(
        forms.SIGNATURE,
        lambda: SourceGraph(Path("absent.onnx"), "test"),
        lambda given: [net(torch.from_numpy(given[0])).detach().numpy()],
        Flat().eval(),
        {},
    )
    return Prepared(Component(name="net"), source, lambda: Path("absent.onnx"), forms.SIGNATURE, {}, forms.samples())


@pytest.mark.parametrize(
    "spec",
    [
        FormSpec("onnxruntime", "FP32"),
        FormSpec("onnxruntime", "FP32", knobs=(("binding", "bound"), ("threads", "1"))),
        FormSpec("openvino", "FP32", knobs=(("streams", "2"),)),
    ],
    ids=lambda spec: spec.name,
)
def test_a_spec_of_the_graph_becomes_a_form(spec: FormSpec, tmp_path: Path) -> None:
    maker = Maker(forms.prepared(tmp_path), CPU, tmp_path, 2)
    for _ in range(2):  # once more in the same place
        made = maker.make(spec)
    assert made.spec == spec
    assert made.form.directory == maker.directory(spec)
    found = open_form(made.form, 2).run(forms.ones())["y"]
    np.testing.assert_allclose(found, forms.truth(forms.ones()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [*baselines(CPU.id, Situation(has_module=True))[:2], FormSpec("openvino", "FP32", reader="pytorch")],
    ids=lambda spec: spec.name,
)
def test_a_spec_of_the_network_becomes_a_form(spec: FormSpec, tmp_path: Path) -> None:
    prepared = network()
    made = Maker(prepared, CPU, tmp_path, 1).make(spec)
    feed = prepared.samples.feeds[-1]
    found = open_form(made.form, 1).run(feed)["y"]
    np.testing.assert_allclose(found, prepared.source.run(feed)["y"], rtol=1e-4, atol=1e-5)


def test_the_users_options_of_the_runtime_count_where_a_form_sets_no_other(tmp_path: Path) -> None:
    options = {"streams": "2", "threads": "2"}
    maker = Maker(forms.prepared(tmp_path), CPU, tmp_path, 2, options=options)
    made = maker.make(FormSpec("onnxruntime", "FP32", knobs=(("threads", "1"),))).form.options
    assert (made["streams"], made["threads"]) == ("2", "1")


def test_forms_of_different_knobs_lie_apart(tmp_path: Path) -> None:
    maker = Maker(forms.prepared(tmp_path), CPU, tmp_path, 1)
    specs = [FormSpec("openvino", "FP32"), FormSpec("openvino", "FP32", knobs=(("streams", "2"),))]
    made = [maker.make(spec) for spec in specs]
    assert len({each.form.directory for each in made}) == 2
    assert all((each.form.directory / name).is_file() for each in made for name in each.form.files)


def test_a_quantized_form_is_built_of_what_the_quantizer_made(tmp_path: Path) -> None:
    asked = []

    def quantize(spec: FormSpec) -> Path:
        asked.append(spec)
        return forms.graph(tmp_path / "other.onnx")

    spec = FormSpec("onnxruntime", "FP32", "quantized")  # what it made is in floating point here: the source counts
    maker = Maker(
        dataclasses.replace(forms.prepared(tmp_path), make_ready=lambda: Path("absent.onnx")),
        CPU,
        tmp_path,
        1,
        0,
        quantize,
    )
    made = maker.make(spec)
    assert made.form.entry.read_bytes() == (tmp_path / "other.onnx").read_bytes()
    assert asked == [spec]
    with pytest.raises(EngineFailure, match="needs calibration data") as caught:
        dataclasses.replace(maker, quantize=None).make(spec)
    assert caught.value.reason is FailureReason.INVALID_SPEC


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (FormSpec("onnxruntime", "BF16"), FailureReason.UNSUPPORTED_PRECISION),
        (FormSpec("onnxruntime", "INT8"), FailureReason.UNSUPPORTED_PRECISION),
        (FormSpec("torchscript", "FP32"), FailureReason.INVALID_SPEC),
        (FormSpec("tensorrt", "FP32"), FailureReason.TOOLCHAIN_UNAVAILABLE),
        (FormSpec("onnxruntime", "FP32", knobs=(("color", "red"),)), FailureReason.INVALID_SPEC),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_cannot_be_built_says_why(spec: FormSpec, reason: FailureReason, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure) as caught:
        Maker(forms.prepared(tmp_path), CPU, tmp_path, 1).make(spec)
    assert caught.value.reason is reason


def test_what_a_tool_raises_becomes_a_failure(tmp_path: Path) -> None:
    prepared = dataclasses.replace(forms.prepared(tmp_path), make_ready=lambda: tmp_path / "nowhere.onnx")
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(EngineFailure) as caught:
            Maker(prepared, CPU, tmp_path, 1).make(FormSpec(runtime, "FP32"))
        assert caught.value.message


def test_a_package_has_the_warnings_of_the_component_and_of_its_form_once(tmp_path: Path) -> None:
    given = dataclasses.replace(forms.prepared(tmp_path), notes=("of the inputs", "of both"))
    truth, spec = Truth(given.source, given.samples, Thresholds()), FormSpec("onnxruntime", "FP32")
    built = dataclasses.replace(forms.form(tmp_path / "form"), warnings=("of both", "of the form"))
    entry = Entry(spec, parity=truth.parity(spec, truth.expected), made=Made(spec, built))
    latency = Latency(spec.name, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    profile = ProfileReport((latency,), latency, 5, 1, 1, "cpu")
    packaged = package_form(given, truth, entry, profile, tmp_path / "package")
    assert packaged.warnings == ("of the inputs", "of both", "of the form")
    assert (tmp_path / "package" / "net" / "model.onnx").is_file()
