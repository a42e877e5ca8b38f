"""What `optimize()` is given: scripts, nested arguments, and models of several networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from engines import optimize
from engines.api.source import GivenModel, given_module, given_path
from engines.api.structure import Leaf, Node
from engines.failures import EngineFailure
from engines.formats.protocol import ReadJob
from engines.spec.devices import load_catalog
from tests.unit.optimization.test_optimize import failure_of

JIT: Any = torch.jit
DEVICE = load_catalog().device("cpu-x86-64")


class Two(nn.Module):
    """Takes two tensors by name and returns two."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, features: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.linear(features) * scale, features.sum(1)


class Nested(nn.Module):
    """Takes a dictionary, and a tensor by name alone."""

    def forward(self, batch: dict[str, torch.Tensor], *, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": batch["a"] * scale}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a TorchScript archive."""
    path = tmp_path_factory.mktemp("script") / "two.ts"
    JIT.script(Two().eval()).save(path)
    return path


def read(given: GivenModel, folder: Path, *arguments: np.ndarray[Any, Any]) -> Any:
    """Return the structure that is found when the model is read."""
    component = given.conversion.template.components[0]
    (folder / "read").mkdir()
    given.read(ReadJob(given.conversion, component, folder, arguments, folder / "read" / "source.onnx"))
    return given.structures["model"]


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


def test_an_archive_is_called_by_the_arguments_of_its_forward(archive: Path) -> None:
    data = {"features": torch.randn(1, 8), "input_1": torch.randn(1, 4)}
    model, report = optimize(archive, 0, "cpu", ["1*8", "1*4"], data, budget_seconds=1, progress=False)
    expected = JIT.load(archive)(data["features"], data["input_1"])
    for found in (model(*data.values()), model(scale=data["input_1"], features=data["features"].numpy())):
        assert isinstance(found, tuple)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert report["test_data_info"]["test_data_shape"] == "features: 1*8; scale: 1*4"
    wrong = failure_of(archive, 0, "cpu", {"features": "1*9", "scale": "1*4"})
    assert "mat1 and mat2 shapes cannot be multiplied" in wrong.message
    assert "Traceback" not in wrong.message
    assert any("Compare the inputs' shapes" in words for words in wrong.__notes__)


@pytest.mark.parametrize(
    ("weights", "inputs"),
    [(torch.float64, "float64"), (torch.float16, "float16"), (torch.bfloat16, "float32"), (torch.float32, "float32")],
)
def test_inputs_are_of_the_element_type_of_the_weights(weights: torch.dtype, inputs: str) -> None:
    module = nn.Linear(8, 4).to(weights)
    for data in (None, torch.ones(1, 8, dtype=weights)):
        (found,) = given_module(module, ["1*8"], DEVICE, data).conversion.template.components[0].inputs
        assert found.dtype == inputs
    (said,) = given_module(module, "input_0:int64(1*8)", DEVICE, None).conversion.template.components[0].inputs
    assert said.dtype == "int64"


def test_a_script_in_memory_is_copied_and_takes_the_shapes_of_test_data(archive: Path, tmp_path: Path) -> None:
    script = JIT.load(archive)
    data = (torch.ones(1, 8), torch.ones(1, 4))
    given = given_module(script, None, DEVICE, data)
    assert [(entry.name, entry.shape) for entry in given.conversion.template.components[0].inputs] == [
        ("features", (1, 8)),
        ("scale", (1, 4)),
    ]
    structure = read(given, tmp_path, ones(1, 8), ones(1, 4))
    assert structure == Node(tuple, ((0, Leaf(torch.float32)), (1, Leaf(torch.float32))))
    assert all(parameter.requires_grad for parameter in script.parameters())
    one = given_module(nn.Linear(8, 4), "1*8", DEVICE, None).conversion.template.components[0].inputs
    assert [(entry.name, entry.shape) for entry in one] == [("input", (1, 8))]
    with pytest.raises(EngineFailure, match="or pass test_data of that shape"):
        given_module(script, None, DEVICE, None)


def test_nested_inputs_are_said_as_tensor_information(tmp_path: Path) -> None:
    given = given_module(Nested(), "batch['a']:float(1*8)\nscale:float(1*8)", DEVICE, None)
    assert read(given, tmp_path, ones(1, 8), ones(1, 8)) == Node(dict, (("out", Leaf(torch.float32)),))
    assert given.conventions["model"].values(({"a": 1},), {"scale": 2}) == [1, 2]


def test_encoder_and_decoder_come_back_by_name(tmp_path: Path) -> None:
    import transformers

    config = transformers.T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=2
    )
    config.decoder_start_token_id, config.max_position_embeddings = 0, 8
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(EngineFailure, match=r"several networks \(encoder, decoder\).*leave input_shapes empty"):
        given_path(tmp_path / "t5", tmp_path / "refused", ["1*8"], DEVICE)
    models, report = optimize(tmp_path / "t5", 0, "cpu", None, budget_seconds=1, progress=False)
    assert list(models) == ["encoder", "decoder"]
    ids, mask = torch.ones(1, 5, dtype=torch.int64), torch.ones(1, 5, dtype=torch.int64)
    hidden = models["encoder"](input_ids=ids, attention_mask=mask).last_hidden_state
    logits = models["decoder"](ids, hidden, mask).logits
    assert (hidden.shape, logits.shape) == ((1, 5, 16), (1, 5, 64))
    assert report["candidates"][0]["form"].startswith("encoder/")
