"""INT8 forms of an optimization are ordinary candidates, in the order in which they are promising."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from engines.optimization.eight_bit import offered_recipes
from engines.runtimes.form import OPEN_QUANTIZER, FormSpec
from tests.unit.quantization import graphs

DEFAULT = FormSpec("onnxruntime", "FP32")
OPENVINO, ORT = (FormSpec(runtime, "INT8", OPEN_QUANTIZER) for runtime in ("openvino", "onnxruntime"))
BOUND = replace(ORT, knobs=(("binding", "bound"),))
WEIGHTS = FormSpec("onnxruntime", "INT8", knobs=(("weights", "int8"),))


def test_every_way_to_quantize_is_a_candidate_and_runtimes_take_turns() -> None:
    specs = [DEFAULT, OPENVINO, ORT, BOUND]
    recipes = offered_recipes(graphs.network(), specs, is_quantized=False)
    found = recipes.put_into(specs)
    assert (found[0], found[-1]) == (DEFAULT, BOUND)  # the quantizer of the last is that which proves best
    assert [spec.runtime for spec in found[1:-1]] == ["openvino", "onnxruntime"] * 3
    assert found[1].quantizer.startswith("nncf on OpenVINO IR")  # which wins most often there
    assert len(set(found)) == len(found)
    assert {spec.quantizer for spec in found[1:-1]} <= {recipe.name for recipe in recipes.all}
    assert {spec.runtime for spec in recipes.otherwise} == {"openvino", "onnxruntime"}
    assert not set(recipes.otherwise) & set(found)
    assert all(one.name != other.name for one, other in pairwise(sorted(found, key=lambda spec: spec.name)))


def test_without_data_nothing_is_calibrated() -> None:
    recipes = offered_recipes(graphs.network(), [DEFAULT, WEIGHTS], is_quantized=False)
    assert recipes.put_into([DEFAULT, WEIGHTS]) == [DEFAULT, WEIGHTS]
    assert recipes.all == []


def test_quantization_that_a_source_carries_is_kept() -> None:
    recipes = offered_recipes(graphs.network(), [OPENVINO, ORT, BOUND], is_quantized=True)
    assert [spec.quantizer for spec in recipes.put_into([OPENVINO, ORT])] == ["kept as it is"] * 2
    assert recipes.put_into([ORT]) == [replace(ORT, quantizer="kept as it is")]
    assert recipes.otherwise == []
