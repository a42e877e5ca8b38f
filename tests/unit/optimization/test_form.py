from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.runtimes.candidates import Situation
from engines.runtimes.form import FormSpec, Made
from engines.runtimes.protocol import BuiltForm
from engines.search.plan import candidates

WORDS = st.text("abcdefgh_", min_size=1, max_size=8)
SPECS = st.builds(
    FormSpec,
    st.sampled_from(["onnxruntime", "openvino", "inductor", "torchscript"]),
    st.sampled_from(["FP32", "BF16", "FP16", "INT8"]),
    st.sampled_from(["", "quantized"]),
    st.sampled_from(["", "pytorch"]),
    st.dictionaries(WORDS, WORDS, max_size=4).map(lambda knobs: tuple(knobs.items())),
)


@pytest.mark.parametrize(
    ("runtime", "knob", "words"),
    [
        ("openvino", ("streams", "2"), "2 streams"),
        ("openvino", ("streams", "1"), "1 stream"),
        ("inductor", ("threads", "1"), "1 thread"),
        ("onnxruntime", ("spinning", "off"), "spinning off"),
        ("onnxruntime", ("binding", "bound"), "pre-bound tensors"),
        ("torchscript", ("layout", "channels_last"), "channels last"),
        ("torchscript", ("mode", "eager"), "eager"),
        ("openvino", ("weights", "int8"), "8-bit weights"),
        ("openvino", ("unheard", "of"), "unheard of"),
        ("abacus", ("beads", "10"), "beads 10"),
    ],
)
def test_names_are_words(runtime: str, knob: tuple[str, str], words: str) -> None:
    assert FormSpec(runtime, "BF16", knobs=(knob,)).name == f"{runtime} BF16, {words}"


def test_the_name_says_who_reads_the_network() -> None:
    assert FormSpec("openvino", "FP32", reader="pytorch").name == "openvino FP32, read from PyTorch"


def test_every_form_that_is_tried_has_a_name_of_its_own() -> None:
    settings: dict[str, Any] = {
        "has_module": True,
        "has_calibration": True,
        "is_transformer": True,
        "has_images": True,
        "batch": 16,
        "threads": 8,
    }
    for objective in ("LATENCY", "THROUGHPUT", "SIZE"):
        specs = candidates("cpu-x86-64", Situation("INT8", objective, **settings))
        assert len({spec.name for spec in specs}) == len(specs)


def test_knobs_have_no_order() -> None:
    first = FormSpec("openvino", "FP32", knobs=(("b", "1"), ("a", "2")))
    assert first == FormSpec("openvino", "FP32", knobs=(("a", "2"), ("b", "1")))
    assert (first.knob("a"), first.knob("c"), first.knob("c", "0")) == ("2", "", "0")


def test_simpler_is_what_needs_fewer_words_and_then_what_changes_less() -> None:
    plain, half = FormSpec("openvino", "FP32"), FormSpec("openvino", "BF16")
    knob = FormSpec("openvino", "FP32", knobs=(("streams", "2"),))
    quantized = FormSpec("openvino", "INT8", "quantized")
    assert sorted([quantized, knob, half, plain], key=lambda spec: spec.simplicity) == [plain, half, knob, quantized]
    assert [spec.is_default for spec in (plain, half, knob, quantized)] == [True, True, False, False]


@given(SPECS)
def test_specs_survive_json(spec: FormSpec) -> None:
    assert FormSpec.from_dict(spec.to_dict()) == spec


@given(SPECS)
def test_made_forms_survive_json(spec: FormSpec) -> None:
    form = BuiltForm(
        spec.runtime, "cpu-x86-64", spec.precision, Path("/forms/a"), ("model.onnx", "data"), ("y",), {"k": "v"}
    )
    made = Made(spec, form)
    assert Made.from_dict(made.to_dict()) == made
