"""Decisions of traced code: those that an input takes are named by their lines, others are left out."""

import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engines.runtimes.torch_networks.decisions import decisions
from engines.sandbox.tasklog import quiet

pytestmark = pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and warns of what is tested here


class Deciding(torch.nn.Module):
    scale: torch.Tensor

    def __init__(self, decide: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.decide = decide
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if self.decide(self, x) else x


def _found(network: torch.nn.Module, *, fixed_shapes: bool) -> list[str]:
    x, written = torch.rand(1, 3, 8), io.BytesIO()
    onnx: Any = torch.onnx
    with decisions(1, fixed_shapes=fixed_shapes) as places:
        onnx.export(network.eval(), (x,), written, dynamo=False, opset_version=20)
    return list(places)


@pytest.mark.parametrize(
    "decide",
    [
        lambda _, x: bool(x.sum() > 0),
        lambda network, x: int((network.scale * x[0, 0, 0]).sum()),
        lambda _, x: x.max().item(),
        lambda _, x: torch.nn.functional.interpolate(x, scale_factor=float(x.max().ceil())).shape,
    ],
    ids=["boolean", "integer", "item", "float"],
)
def test_a_decision_by_a_value_of_an_input_is_named_with_its_line(decide: Callable[..., Any]) -> None:
    (place,) = _found(Deciding(decide), fixed_shapes=True)
    assert place.endswith(f"tests/unit/runtimes/test_decisions.py:{decide.__code__.co_firstlineno}")


@pytest.mark.parametrize("fixed_shapes", [True, False])
def test_a_decision_by_a_constant_of_the_network_is_none(fixed_shapes: bool) -> None:
    assert _found(Deciding(lambda network, _: network.scale.sum() > 0), fixed_shapes=fixed_shapes) == []


@pytest.mark.parametrize(("fixed_shapes", "named"), [(True, 0), (False, 1)])
def test_a_decision_by_a_shape_counts_if_shapes_vary(fixed_shapes: bool, named: int) -> None:
    assert len(_found(Deciding(lambda _, x: x.shape[0] > 2), fixed_shapes=fixed_shapes)) == named


def test_a_decision_in_code_of_torch_is_named_by_the_line_that_calls_it() -> None:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert _found(torch.nn.TransformerEncoder(layer, 1), fixed_shapes=False) == [], "it checks shapes alone"

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.TransformerEncoder(layer, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.encoder(x, mask=x[0, :, :3])
            return y

    (place,) = _found(Masked(), fixed_shapes=True)
    assert "/torch/" not in place
    assert "test_decisions.py:" in place


def test_tensors_are_as_they_were_afterwards() -> None:
    before = torch.Tensor.__bool__
    _found(Deciding(lambda _, x: x.sum() > 0), fixed_shapes=True)
    assert torch.Tensor.__bool__ is before


def test_warnings_of_torchs_loggers_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("tests.quiet")
    with caplog.at_level(logging.INFO, "tests.quiet"), quiet(log):
        logging.getLogger("torch.fx.experimental.symbolic_shapes").warning("Unable to find user code")
    assert "Unable to find user code" in caplog.text
