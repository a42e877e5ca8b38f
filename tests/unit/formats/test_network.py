import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats.pytorch.network import build_network, parse_config
from engines.formats.pytorch.reader import load_network
from engines.formats.pytorch.weights import load_weights
from engines.formats.torch_export.forward import flatten_outputs, run_forward, run_module
from engines.formats.torch_export.module_source import check_numbers
from engines.formats.torch_export.onnx_export import flat_network
from tests.unit.formats import networks
from tests.unit.formats.conftest import MakeSource

Prepare = Callable[[dict[str, Any]], dict[str, Any]]
IMAGE = np.zeros((1, 3, 8, 8), np.float32)


def _build(tmp_path: Path, body: str, **kwargs: Any) -> Any:
    path = tmp_path / "net.py"
    path.write_text(f"{networks.HEAD}{body}\n")
    return build_network(path, **kwargs)


def test_arguments_come_from_configuration_and_number_of_classes(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(networks.CNN)
    network = build_network(tmp_path / "net.py", class_name="SmallCNN", config="width: 6", num_classes=3)
    assert network.state_dict()["head.weight"].shape == (3, 6)
    (tmp_path / "mlp.py").write_text(networks.MLP)
    mlp = build_network(tmp_path / "mlp.py", config='{"sizes": [2, 3]}', num_classes=3)
    assert mlp.state_dict()["0.weight"].shape == (3, 2), "a function that takes no num_classes gets none"


def test_dataclasses_and_type_hints_of_a_file_work(tmp_path: Path) -> None:
    body = (
        "from dataclasses import dataclass\n\n@dataclass\nclass Config:\n    size: int = 2\n\n"
        "@architecture('A')\ndef build() -> 'nn.Module':\n    return nn.Linear(Config().size, 1)"
    )
    assert _build(tmp_path, body).in_features == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import torchvision\n@architecture('A')\ndef build(): ...", r"ModuleNotFoundError.*torchvision.*\(net.py:4\)"),
        ("1 / 0\n@architecture('A')\ndef build(): ...", r"ZeroDivisionError: division by zero \(net.py:4\)"),
        (
            "@architecture('A')\ndef build():\n    raise KeyError('depth')",
            r"'build' raised KeyError: 'depth' \(net.py:6\)",
        ),
        ("@architecture('A')\ndef build():\n    exit(3)", r"'build' raised SystemExit: 3"),
        ("@architecture('A')\ndef build():\n    return nn.Linear", "returned a type, not a torch.nn.Module"),
        ("@architecture('A')\ndef build(): ...", "returned a NoneType"),
        ("@architecture('A')\ndef build(depth): ...", r"'build\(depth\)' \(line 5\) cannot be called .*'depth'"),
        ("def build(): ...", "line 4, column 1: The last function, 'build', has no decorator"),
        ("@architecture('B')\ndef build(): ...", "declares 'B' instead of 'A'"),
        ("wrap = lambda s: lambda f: 3\n@wrap('A')\ndef build(): ...", "made 'build' a int"),
    ],
)
def test_architectures_that_do_not_build(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        _build(tmp_path, body, class_name="A")
    assert caught.value.reason is FailureReason.INVALID_ARCHITECTURE


def test_what_the_kernel_forbids_is_called_unsafe(tmp_path: Path) -> None:
    body = (
        "raise PermissionError(13, 'Permission denied', '/home/someone/.bashrc')\n@architecture('A')\ndef build(): ..."
    )
    with pytest.raises(EngineFailure, match=r"sandbox forbids: .*bashrc.*net.py:4") as caught:
        _build(tmp_path, body)
    assert caught.value.reason is FailureReason.UNSAFE_MODEL


def test_memory_errors_are_not_the_architectures_fault(tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        _build(tmp_path, "raise MemoryError\n@architecture('A')\ndef build(): ...")
    words = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
    with pytest.raises(EngineFailure) as caught:
        _build(tmp_path, f"raise RuntimeError({words!r})\n@architecture('A')\ndef build(): ...")
    assert caught.value.reason is FailureReason.OUT_OF_MEMORY


@pytest.mark.parametrize("text", ["- 1", "3", "{a: ", "a b: 1", "1: 2", "!!python/object/apply:os.system ['true']"])
def test_configuration_that_is_no_mapping_of_arguments(text: str) -> None:
    with pytest.raises(EngineFailure, match="configuration") as caught:
        parse_config(text)
    assert caught.value.reason is FailureReason.INVALID_SPEC


@pytest.mark.parametrize("text", ["", "  \n", "# nothing", "{}"])
def test_empty_configuration(text: str) -> None:
    assert parse_config(text) == {}


def test_weights_arrive_and_the_network_is_in_evaluation_mode(make_source: MakeSource) -> None:
    network = load_network(make_source(networks.CNN, config="width: 2", num_classes=3))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    first, second = (run_module(network, [IMAGE + 1])[0] for _ in range(2))
    assert first.shape == (1, 3)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "message", "evidence", "fix"),
    [
        (
            lambda w: {k: v for k, v in w.items() if k != "head.bias"},
            "1 keys missing, 0 unexpected, 0 of",
            r"missing \(1\): head.bias \(10\)",
            "configuration",
        ),
        (
            lambda w: {**w, "x.y": w["head.bias"]},
            "0 keys missing, 1 unexpected",
            r"unexpected \(1\): x.y \(10\)",
            "configuration",
        ),
        (
            lambda w: {**w, "head.bias": w["head.bias"][:3]},
            "1 of another shape",
            r"head.bias \(architecture 10, weights 3\)",
            "number of classes",
        ),
        (
            lambda w: {**{f"backbone.{k}": v for k, v in w.items()}, "loss.weight": w["head.bias"]},
            "7 keys missing, 9 unexpected",
            "backbone.head.bias",
            "no place for 'loss.weight'. Save that part alone: torch.save(model.backbone.state_dict(), path)",
        ),
        (
            lambda w: {k.removeprefix("head."): v for k, v in w.items() if "head." in k},
            "7 keys missing, 2 unexpected",
            "features.0.weight",
            "of its part 'head' alone",
        ),
        (
            lambda w: {f"k{i}": w["head.bias"] for i in range(50)},
            "50 unexpected",
            r"unexpected \(50\): .*, and 30 more",
            "trained with",
        ),
    ],
    ids=["missing", "unexpected", "shape", "deeper", "shallower", "many"],
)
def test_weights_that_do_not_fit(tmp_path: Path, change: Prepare, message: str, evidence: str, fix: str) -> None:
    (tmp_path / "net.py").write_text(networks.CNN)
    network = build_network(tmp_path / "net.py")
    with pytest.raises(EngineFailure, match=message) as caught:
        load_weights(network, change(dict(network.state_dict())))
    assert caught.value.reason is FailureReason.WEIGHTS_MISMATCH
    assert re.search(evidence, caught.value.evidence)
    assert fix in caught.value.suggested_fix


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
        lambda w: {f"module.{k}": v for k, v in w.items()},
        lambda w: {f"model._orig_mod.module.{k}": v for k, v in w.items()},
        lambda w: {k.replace("features.", "features._orig_mod."): v for k, v in w.items()},
    ],
)
def test_keys_written_otherwise_find_their_places(tmp_path: Path, change: Prepare) -> None:
    (tmp_path / "net.py").write_text(networks.CNN)
    trained, network = (build_network(tmp_path / "net.py") for _ in range(2))
    load_weights(network, change(dict(trained.state_dict())))
    for key, weight in trained.state_dict().items():
        np.testing.assert_array_equal(network.state_dict()[key], weight)


def test_weights_of_the_older_weight_normalization_are_loaded() -> None:
    from torch import nn

    with pytest.warns(FutureWarning, match="deprecated"):
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2)))
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    load_weights(new, {f"model.{key}": value for key, value in old.state_dict().items()})
    feed = [np.ones((1, 3), np.float32)]
    np.testing.assert_allclose(run_module(new, feed)[0], run_module(old, feed)[0], rtol=1e-6)


def test_complex_weights_do_not_become_real_ones() -> None:
    import torch

    with pytest.raises(EngineFailure, match="1 of another shape") as caught:
        load_weights(torch.nn.Linear(3, 2), {"weight": torch.ones(2, 3, dtype=torch.complex64), "bias": torch.ones(2)})
    assert "weight (architecture 2*3, weights 2*3 complex)" in caught.value.evidence


def test_weights_that_are_no_numbers_are_named_and_counted() -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Embedding(2, 2).half())
    check_numbers(network)
    weight: Any = network[0].weight
    weight.data[1, :2] = float("nan")
    with pytest.raises(EngineFailure, match=r"in 1 tensor: the first is 0.weight \(2 values\)") as caught:
        check_numbers(flat_network(network))
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_lazy_modules_take_the_shape_of_the_weights(tmp_path: Path) -> None:
    import torch

    network = _build(tmp_path, "@architecture('A')\ndef build():\n    return nn.Sequential(nn.LazyLinear(2))")
    load_weights(network, torch.nn.Sequential(torch.nn.Linear(5, 2)).state_dict())
    assert run_module(network.eval(), [np.ones((1, 5), np.float32)])[0].shape == (1, 2)
    with pytest.raises(EngineFailure, match="1 keys missing") as caught:
        load_weights(
            _build(tmp_path, "@architecture('A')\ndef build():\n    return nn.LazyLinear(2)"), {"bias": torch.ones(2)}
        )
    assert "weight (any shape)" in caught.value.evidence


@pytest.mark.parametrize(
    ("sample", "reason", "module"),
    [
        (np.zeros((1, 4, 8, 8), np.float32), FailureReason.SHAPE_MISMATCH, "features.0"),
        (np.zeros((1, 3, 2, 2), np.float32), FailureReason.SHAPE_MISMATCH, "features.0"),
        (np.zeros((1, 3, 8, 8), np.int64), FailureReason.INVALID_ARCHITECTURE, "features.0"),
    ],
)
def test_forward_that_raises_names_the_module(tmp_path: Path, sample: Any, reason: FailureReason, module: str) -> None:
    (tmp_path / "net.py").write_text(networks.CNN)
    network = build_network(tmp_path / "net.py").eval()
    with pytest.raises(EngineFailure, match=f"In module '{module}', 'forward' raised") as caught:
        run_forward(network, [sample])
    assert (caught.value.reason, caught.value.node) == (reason, module)
    assert f"{sample.dtype}(1*" in caught.value.evidence


def test_outputs_of_any_structure_are_flattened() -> None:
    import torch

    one, two, three = (torch.full((1,), value) for value in (1.0, 2.0, 3.0))
    assert flatten_outputs({"b": one, "a": (two, [None, {"c": three}])}) == [one, two, three]
    with pytest.raises(EngineFailure, match=r"holds str 'two' at \[1\]"):
        flatten_outputs([one, "two"])


def test_half_precision_outputs_arrive_as_float32(tmp_path: Path) -> None:
    body = "@architecture('A')\ndef build():\n    return nn.Linear(2, 1).to(torch.bfloat16)"
    import torch

    class Cast(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> Any:
            return self.inner(x.bfloat16())

    assert run_module(Cast(_build(tmp_path, body)), [np.ones((1, 2), np.float32)])[0].dtype == np.float32
