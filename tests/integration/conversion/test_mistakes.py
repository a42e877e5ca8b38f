"""What users get wrong in a network, its inputs or its weights: each is told with what to do about it."""

import re
import textwrap
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from tests.integration.conversion.workbench import CNN, TWO_INPUTS, Bench, image

VECTOR = [{"name": "x", "shape": [1, 4]}]
IDS = {"name": "ids", "shape": [1, 6], "dtype": "int64", "sample_max": 49}
MASK = {"name": "mask", "shape": [1, 6]}


def network(body: str, arguments: str = "self, x") -> str:
    head = f"""
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward({arguments}):
"""
    return head + textwrap.indent(body, " " * 8) + '\n\n@architecture("Net")\ndef build():\n    return Net()\n'


MISTAKES: dict[str, tuple[str, dict[str, Any], FailureReason, str, str]] = {
    "channels": (
        CNN,
        {"inputs": [image(shape=[1, 1, 12, 12])]},
        FailureReason.SHAPE_MISMATCH,
        r"In module 'features.0', 'forward' raised .* \(net.py:12\)",
        "Compare the inputs' shapes",
    ),
    "dtype": (
        network("return self.fc(x)"),
        {"inputs": [{**VECTOR[0], "dtype": "int64"}]},
        FailureReason.INVALID_ARCHITECTURE,
        "In module 'fc'",
        "Declare each input in the dtype",
    ),
    "range": (
        TWO_INPUTS,
        {"inputs": [{**IDS, "sample_min": 400, "sample_max": 500}, MASK]},
        FailureReason.INVALID_ARCHITECTURE,
        "In module 'embed'.* index out of range",
        "sample_max",
    ),
    "missing input": (
        TWO_INPUTS,
        {"inputs": [IDS]},
        FailureReason.INVALID_SPEC,
        r"'forward\(ids, mask\)' cannot be called .* \(ids\).* missing a required argument: 'mask'",
        "one input for each argument",
    ),
    "keyword": (
        network("return self.fc(x)", "self, *, x"),
        {"inputs": VECTOR},
        FailureReason.INVALID_SPEC,
        r"'forward\(\*, x\)' cannot be called",
        "by position",
    ),
    "no tensor": (
        network("return {'y': self.fc(x), 'aux': (None, 3)}"),
        {"inputs": VECTOR},
        FailureReason.INVALID_ARCHITECTURE,
        r"holds int '3' at \['aux'\]\[1\]",
        "tensors alone",
    ),
    "device": (
        network("return self.fc(x.cuda())"),
        {"inputs": VECTOR},
        FailureReason.INVALID_ARCHITECTURE,
        "'forward' raised",
        r"x\.device",
    ),
    "batch": (
        network("return self.fc(x).reshape(1, 3)"),
        {"inputs": VECTOR},
        FailureReason.SHAPE_MISMATCH,
        r"^'forward' raised .*\(net.py:11\)",
        "largest batch to 1",
    ),
    "decision": (
        network("return self.fc(x) if x.sum() > 0 else -self.fc(x)"),
        {"inputs": VECTOR},
        FailureReason.PARITY_FAILED,
        "does not compute what its source computes",
        r"net\.py:11 with tensor operators",
    ),
    "random": (
        network("return self.fc(x) + torch.rand(x.shape[0], 3)"),
        {"inputs": VECTOR},
        FailureReason.PARITY_FAILED,
        "does not compute what its source computes",
        "Take random numbers out",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_what_to_do(name: str, bench: Bench) -> None:
    source, options, reason, words, advice = MISTAKES[name]
    bench.put_network(source)
    with pytest.raises(EngineFailure, match=words) as caught:
        bench.convert(bench.request(method="raw", **options))
    assert caught.value.reason is reason
    assert re.search(advice, caught.value.suggested_fix), caught.value.suggested_fix


def test_inputs_written_into_and_none_among_the_outputs_are_fine(bench: Bench) -> None:
    bench.put_network(network("x += 1\nx[:, 0] = 0\nreturn {'y': self.fc(x), 'loss': None}"))
    outcome = bench.convert(bench.request(method="raw", inputs=VECTOR))
    assert [output["verdict"] for output in outcome["components"][0]["parity"]["outputs"]] == ["PASS"]
