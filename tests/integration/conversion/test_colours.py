"""Packages that take NV12 images, in every runtime of this processor."""

from __future__ import annotations

from typing import Any

import pytest
from lathe.internal.v1.conversion_pb2 import ConversionOutcome
from lathe.type.v1.measurement_pb2 import Verdict

from engines.failures import EngineFailure
from engines.package.manifest import read_manifest
from services.platform.words import from_values
from tests.integration.conversion.workbench import COLOURS, Bench

NV12: dict[str, Any] = {
    "name": "image",
    "shape": [1, 3, 16, 16],
    "preprocessing": {
        "input_color": "NV12",
        "model_color": "BGR",
        "mean_values": [110.0, 100.0, 90.0],
        "scale_values": [60.0, 61.0, 62.0],
    },
}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torchscript"])
def test_a_package_that_takes_nv12_is_verified(runtime: str, bench: Bench) -> None:
    bench.put_network(COLOURS)
    outcome = from_values(
        bench.convert(bench.request(runtime=runtime, inputs=[NV12], max_batch=8)), ConversionOutcome()
    )
    (component,) = outcome.components
    assert component.parity.verdict == Verdict.VERDICT_PASS
    assert list(component.parity.sample_values) == ["noise", "NV12 images"]
    (entry,) = read_manifest(bench.package).components
    tensor = entry.signature.inputs[0]
    assert (tensor.dtype, tensor.shape.max) == ("uint8", (8, 24, 16))  # type: ignore[union-attr]
    assert entry.preprocessing["image"].takes_nv12
    assert "`image` takes NV12 images as bytes [N, height * 3/2, width]" in (bench.package / "README.md").read_text()


def test_odd_sizes_are_refused_with_the_field(bench: Bench) -> None:
    bench.put_network(COLOURS)
    odd = NV12 | {"shape": [1, 3, 16, 15]}
    with pytest.raises(EngineFailure, match="whose height and width are even, and not 16 by 15"):
        bench.convert(bench.request(inputs=[odd]))
