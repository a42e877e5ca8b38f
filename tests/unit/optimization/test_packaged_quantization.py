"""What manifests say of quantization: what won, in the words of the quantizers themselves."""

from __future__ import annotations

import pytest

from engines.optimization.packaged_quantization import quantization_entry
from engines.quantization.direct_quantizers import AsItIs
from engines.quantization.nncf_quantizers import Nncf
from engines.quantization.onnxruntime_quantizers import StaticQdq
from engines.quantization.quantizers import Settings
from engines.runtimes.form import FormSpec
from tests.unit.optimization.test_result import component


def settings(*, asymmetric: bool) -> Settings:
    return Settings("INT8", "MINMAX", asymmetric, per_channel=True, seven_bits=False, transformer=True, runtime="")


def test_nothing_is_said_where_nothing_is_quantized() -> None:
    assert quantization_entry([component("a"), component("b")]) is None


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("quantizer", [StaticQdq(everything=False), Nncf(on_ir=True)])
def test_ranges_are_those_of_the_quantizer_that_won(quantizer: StaticQdq | Nncf, asymmetric: bool) -> None:
    name = f"{quantizer.name(settings(asymmetric=asymmetric))}, 2 nodes in floating point"
    found = quantization_entry([component("a"), component("b", quantizer=name, floating_point_nodes=("x", "y"))])
    assert found is not None
    assert (found.scheme, found.method, found.granularity) == ("STATIC", "", "PER_CHANNEL")
    assert found.asymmetric is asymmetric
    assert found.components["b"].quantizer == name
    assert found.components["b"].floating_point_nodes == ("x", "y")
    assert "a" not in found.components


def test_a_source_that_carries_its_own_is_said_to_be_kept() -> None:
    found = quantization_entry([component("a", quantizer=AsItIs().name(settings(asymmetric=True)))])
    assert found is not None
    assert (found.scheme, found.method, found.granularity, found.asymmetric) == ("", "", "", False)


@pytest.mark.parametrize(
    ("runtime", "weights", "told", "name"),
    [
        ("openvino", "int8", ("WEIGHT_ONLY", "PER_CHANNEL", True), "INT8 weights, integer products"),
        ("onnxruntime", "int8", ("DYNAMIC", "PER_CHANNEL", False), "onnxruntime dynamic per channel"),
        ("onnxruntime", "int8_default", ("DYNAMIC", "PER_TENSOR", False), "onnxruntime dynamic per tensor"),
    ],
)
def test_weights_in_eight_bits_are_told_too(runtime: str, weights: str, told: tuple[str, str, bool], name: str) -> None:
    done = component("a")
    done.found.recommended.spec = FormSpec(runtime, "INT8", knobs=(("weights", weights),))
    found = quantization_entry([done])
    assert found is not None
    assert (found.scheme, found.granularity, found.asymmetric) == told
    assert found.components["a"].quantizer == name
