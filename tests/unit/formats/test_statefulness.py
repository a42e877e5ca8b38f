"""Sources that keep something between calls: runs leave them as the file has them; outputs that show it are refused."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.failures import EngineFailure, FailureReason
from engines.formats.torch_export.forward import run_module
from engines.formats.torch_export.statefulness import refuse_stateful
from engines.runtimes.torch_networks.state import kept_state
from tests.unit.formats.reading import assert_equal, read
from tests.unit.runtimes.building import build

pytestmark = pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated, and still what users upload
INPUTS = [{"name": "x", "shape": [1, 8]}]


class Inner(torch.nn.Module):
    h: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("h", torch.zeros(1, 8))
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.h = torch.tanh(self.linear(x) + self.h)
        return self.h


class Recurrent(torch.nn.Module):
    """Keeps a tensor of another module, a list, a dictionary and a number: all that TorchScript knows."""

    seen: list[torch.Tensor]
    counts: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls, self.seen, self.counts = Inner(), 0, [], {"calls": 0}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(x)
        self.counts["calls"] += 1
        y: torch.Tensor = self.inner(x)
        return y + self.calls + len(self.seen) + self.counts["calls"]


class InPlace(torch.nn.Module):
    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x)
        return self.total


class RunningMaximum(torch.nn.Module):
    """Two calls with one input differ only if another one came between."""

    largest: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.largest = torch.maximum(self.largest, x[0, 0])
        return x / self.largest


class Counting(torch.nn.Module):
    """Counts its calls, and computes the same each time."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        self.last = x
        y: torch.Tensor = self.linear(x)
        return y


class Drawing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def _script(network: torch.nn.Module) -> Any:
    jit: Any = torch.jit
    scripted = jit.script(network.eval())
    for parameter in scripted.parameters():
        parameter.requires_grad_(requires_grad=False)
    return scripted


def _saved(network: torch.nn.Module, source_format: str, folder: Path) -> None:
    folder.mkdir()
    jit: Any = torch.jit
    if source_format == "TORCHSCRIPT":
        jit.save(jit.script(network.eval()), str(folder / "model.pt"))
    else:
        torch.export.save(torch.export.export(network.eval(), (torch.ones(1, 8),)), folder / "model.pt2")


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("network", [Recurrent, InPlace])
def test_each_run_starts_from_the_networks_own_state(network: type[torch.nn.Module], scripted: bool) -> None:
    torch.manual_seed(0)
    module: Any = _script(network()) if scripted else network().eval().requires_grad_(requires_grad=False)
    before = copy.deepcopy(module)
    x = np.linspace(0, 1, 8, dtype=np.float32)[None]
    first, second = run_module(module, [x])[0], run_module(module, [x])[0]
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, np.zeros_like(first)), "the output is the state, and must outlive its restoring"
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], tensor, rtol=0, atol=0)
    if network is Recurrent:
        assert (module.calls, len(module.seen), module.counts) == (0, 0, {"calls": 0})


def test_what_changed_is_named_and_put_back_in_place() -> None:
    network: Any = Recurrent().eval().requires_grad_(requires_grad=False)
    seen, h = network.seen, network.inner.h
    with kept_state(network) as state, torch.inference_mode():
        network(torch.ones(1, 8))
        network.added = 1
        assert set(state.changes()) == {"calls", "seen", "counts.calls", "inner.h", "added"}
    assert network.seen is seen and network.inner.h is h  # noqa: PT018 - one fact: nothing was replaced
    assert not hasattr(network, "added")
    assert state.changes() == []


@pytest.mark.parametrize("source_format", ["TORCHSCRIPT", "EXPORTED_PROGRAM"])
def test_a_stateful_source_is_refused_by_what_it_keeps(tmp_path: Path, source_format: str) -> None:
    torch.manual_seed(0)
    _saved(Inner(), source_format, tmp_path / "source")
    with pytest.raises(EngineFailure, match=r"depend on earlier calls.* it keeps 'h'") as caught:
        read(source_format, tmp_path, inputs=INPUTS if source_format == "TORCHSCRIPT" else [])
    assert caught.value.reason is FailureReason.STATEFUL_MODEL
    assert "input and an output" in caught.value.suggested_fix


def test_state_that_shows_only_after_another_input_is_found() -> None:
    x = np.linspace(1, 2, 8, dtype=np.float32)[None]
    with pytest.raises(EngineFailure, match="it keeps 'largest'") as caught:
        refuse_stateful(RunningMaximum().eval(), [x], ["y"])
    assert "output 'y'" in caught.value.evidence


def test_random_numbers_are_no_state_and_leave_the_generators_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    refuse_stateful(Drawing().eval(), [np.ones((1, 8), np.float32)], ["y"])
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize("source_format", ["TORCHSCRIPT", "EXPORTED_PROGRAM"])
def test_a_state_that_no_output_shows_is_the_files_in_every_form(tmp_path: Path, source_format: str) -> None:
    torch.manual_seed(0)
    network = Counting()
    if source_format == "TORCHSCRIPT":
        network.last = torch.zeros(1, 8)
    _saved(network, source_format, tmp_path / "source")
    prepared = read(source_format, tmp_path, inputs=INPUTS if source_format == "TORCHSCRIPT" else [])
    assert_equal(prepared)
    prepared.source.run(prepared.samples.feeds[0])
    mode = {} if source_format == "TORCHSCRIPT" else {"mode": "eager"}
    form = build("torchscript", prepared.build_source(), tmp_path / "form", "FP32", mode)
    jit: Any = torch.jit
    state = torch.export.load(form.entry).state_dict if mode else jit.load(str(form.entry)).state_dict()
    assert [int(tensor) for name, tensor in state.items() if name.endswith("calls")] == [0]
