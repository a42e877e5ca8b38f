"""Hugging Face directories are looked through before anything is loaded: code, links, missing and damaged files."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.formats.huggingface import diffusers
from engines.formats.huggingface.configurations import companions, read_config
from engines.formats.huggingface.description import read_weights, weight_files
from engines.formats.huggingface.tasks import task_of
from engines.spec.source_files import folder_inside
from engines.spec.template import Component


def _json(path: Path, **values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def _tensors(path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros((2, 3), "float32")}, path)


def test_a_directory_without_a_configuration_is_refused(tmp_path: Path) -> None:
    _tensors(tmp_path / "model.safetensors")
    with pytest.raises(EngineFailure, match=r"no config\.json; it has model\.safetensors\.") as raised:
        read_config(tmp_path)
    assert raised.value.reason is FailureReason.INVALID_MODEL


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_a_configuration_that_asks_for_code_is_named(tmp_path: Path, name: str) -> None:
    _json(tmp_path / "config.json", model_type="bert")
    _json(tmp_path / name, auto_map={"AutoModel": "modeling_own.OwnModel"})
    with pytest.raises(
        EngineFailure, match=rf"'{name}' asks for code .*\(auto_map: modeling_own\.OwnModel\)"
    ) as raised:
        read_config(tmp_path)
    assert raised.value.reason is FailureReason.UNSAFE_MODEL
    assert "auto_map" in raised.value.suggested_fix


def test_a_pipeline_whose_part_is_a_python_file_asks_for_code(tmp_path: Path) -> None:
    _json(tmp_path / "model_index.json", _class_name="StableDiffusionPipeline", unet=["own_unet", "Unet"])
    read_config(tmp_path, "model_index.json")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "own_unet.py").write_text("raise SystemExit")
    with pytest.raises(EngineFailure, match=r"asks for code .*unet: own_unet") as raised:
        read_config(tmp_path, "model_index.json")
    assert raised.value.reason is FailureReason.UNSAFE_MODEL


def test_weights_that_are_stored_quantized_are_refused(tmp_path: Path) -> None:
    _json(tmp_path / "config.json", model_type="llama", quantization_config={"quant_method": "gptq"})
    with pytest.raises(EngineFailure, match="stored quantized by 'gptq'"):
        read_config(tmp_path)


def test_safetensors_go_before_pickles(tmp_path: Path) -> None:
    _tensors(tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(print))
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    _tensors(tmp_path / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    _json(tmp_path / "model.safetensors.index.json", weight_map=shards)
    with pytest.raises(EngineFailure, match=r"are in 2 files; of these, model-00002-of-00002\.safetensors is missing"):
        weight_files(tmp_path)
    _tensors(tmp_path / "model-00002-of-00002.safetensors")
    assert len(weight_files(tmp_path)) == 2


def _code(path: Path) -> None:
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(print))


def _outside(path: Path) -> None:
    _json(path / "model.safetensors.index.json", weight_map={"a": "../../secret.safetensors"})


def _cut(path: Path) -> None:
    _tensors(path / "model.safetensors")
    (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-4])


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "none": (lambda path: (path / "tf_model.h5").touch(), "no weights of PyTorch; it has tf_model", "INVALID_MODEL"),
    "empty": (
        lambda path: (path / "model.safetensors").touch(),
        "it is empty; its weights did not arrive",
        "INVALID_MODEL",
    ),
    "cut": (_cut, "it is truncated", "INVALID_MODEL"),
    "code": (_code, "print", "UNSAFE_MODEL"),
    "no pickle": (
        lambda path: (path / "pytorch_model.bin").write_bytes(b"x" * 99),
        "cannot be read as a PyTorch checkpoint",
        "INVALID_MODEL",
    ),
    "outside": (_outside, "is in another folder", "UNSAFE_MODEL"),
    "no map": (lambda path: _json(path / "model.safetensors.index.json"), "has no 'weight_map'", "INVALID_MODEL"),
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_that_cannot_be_used_are_refused(tmp_path: Path, case: str) -> None:
    write, words, reason = WRONG[case]
    write(tmp_path)
    with pytest.raises(EngineFailure, match=words) as raised:
        [read_weights(path) for path in weight_files(tmp_path)]
    assert raised.value.reason == reason
    assert raised.value.suggested_fix


def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "work" / "source"
    source.mkdir(parents=True)
    (tmp_path / "secret").touch()
    (source / "config.json").touch()
    (source / "inner.json").symlink_to(source / "config.json")
    assert folder_inside(tmp_path / "work", "source") == source
    (source / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(EngineFailure, match=r"'model\.safetensors' is a link that leads out") as raised:
        folder_inside(tmp_path / "work", "source")
    assert raised.value.reason is FailureReason.UNSAFE_MODEL


def test_a_component_of_a_directory_is_a_folder() -> None:
    paths = ["source/model_index.json", "source/unet/config.json", "samples/test.npz"]
    assert FORMATS["HUGGINGFACE"].source_path(Component(name="unet", source_file="unet"), paths) == "source/unet"
    assert FORMATS["HUGGINGFACE"].source_path(Component(name="model"), paths) == "source"
    with pytest.raises(EngineFailure, match=r"'vae' reads the folder 'source/vae'; the model version has source, so"):
        FORMATS["HUGGINGFACE"].source_path(Component(name="vae", source_file="vae"), paths)


def test_the_model_is_told_from_what_lies_beside_it() -> None:
    beside = ["source/README.md", "source/net.onnx", "source/weights.bin", "samples/test.npz"]
    assert FORMATS["ONNX"].source_path(Component(name="model"), beside) == "source/net.onnx"
    assert (
        FORMATS["TORCHSCRIPT"].source_path(Component(name="model"), ["source/config.json", "source/net.pt"])
        == "source/net.pt"
    )
    with pytest.raises(EngineFailure, match=r"has 2 files that may be the model: source/a\.onnx, source/b\.onnx\. Set"):
        FORMATS["ONNX"].source_path(Component(name="model"), ["source/a.onnx", "source/b.onnx", "source/w.bin"])


def test_tokenizer_and_configuration_travel(tmp_path: Path) -> None:
    for name in ("model_index.json", "unet/config.json", "tokenizer_2/vocab.json", "scheduler/scheduler_config.json"):
        _json(tmp_path / name)
    (tmp_path / "unet" / "model.safetensors").touch()
    assert set(companions(tmp_path, tmp_path / "unet")) == {
        "configuration/model_index.json",
        "configuration/scheduler/scheduler_config.json",
        "configuration/unet/config.json",
        "tokenizer_2/vocab.json",
    }


def test_the_task_is_told_from_the_architecture() -> None:
    assert task_of("BertForQuestionAnswering").outputs == ("start_logits", "end_logits")
    assert task_of("MarianMTModel").name == "text to text"
    assert task_of("GPT2LMHeadModel").name == "causal language modelling"
    assert task_of("CLIPTextModelWithProjection").name == "feature extraction"
    with pytest.raises(EngineFailure, match="'BertForPreTraining' is for a task that Lathe does not read"):
        task_of("BertForPreTraining")


def test_the_parts_of_a_pipeline_are_components_with_inputs(tmp_path: Path) -> None:
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    _json(tmp_path / "model_index.json", _class_name="P", safety_checker=["stable_diffusion", "S"], **parts)
    with pytest.raises(EngineFailure, match="none of the parts"):
        diffusers.components(tmp_path, Component(name="model"))
    _json(tmp_path / "safety_checker" / "config.json")
    unet = {"in_channels": 4, "sample_size": 8, "cross_attention_dim": 16, "addition_embed_type": "text_time"}
    unet |= {"projection_class_embeddings_input_dim": 68, "addition_time_embed_dim": 8}
    _json(tmp_path / "unet" / "config.json", _class_name="UNet2DConditionModel", **unet)
    _json(tmp_path / "vae" / "config.json", _class_name="AutoencoderKL", sample_size=16, block_out_channels=[8, 16])
    found = diffusers.components(tmp_path, Component(name="model", max_batch=2))
    assert [(part.name, part.source_file, part.max_batch) for part in found] == [
        ("unet", "unet", 2),
        ("vae_encoder", "vae", 2),
        ("vae_decoder", "vae", 2),
    ]
    shapes = [
        {given.name: given.shape for given in diffusers.inputs_of(tmp_path / part.source_file, part)} for part in found
    ]
    assert shapes[0]["encoder_hidden_states"] == (1, 77, 16)
    assert (shapes[0]["text_embeds"], shapes[0]["time_ids"]) == ((1, 20), (1, 6))
    assert shapes[1:] == [{"sample": (1, 3, 16, 16)}, {"latent_sample": (1, 4, 8, 8)}]
    _json(tmp_path / "vae" / "config.json", _class_name="AutoencoderKL", sample_size=[16, 8], block_out_channels=[8])
    assert diffusers.inputs_of(tmp_path / "vae", found[1])[0].shape == (1, 3, 16, 8)
    _json(tmp_path / "unet" / "config.json", _class_name="UNet2DConditionModel", sample_size="large")
    with pytest.raises(EngineFailure, match="UNet2DConditionModel does not say the shapes") as raised:
        diffusers.inputs_of(tmp_path / "unet", found[0])
    assert raised.value.reason is FailureReason.INVALID_MODEL
    _json(tmp_path / "unet" / "config.json", _class_name="OtherModel")
    with pytest.raises(EngineFailure, match="inputs of a OtherModel cannot be derived"):
        diffusers.inputs_of(tmp_path / "unet", found[0])


def test_where_diffusers_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _json(tmp_path / "config.json", _class_name="UNet2DModel")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(EngineFailure, match="diffusers is not installed") as raised:
        diffusers.load_part(tmp_path, Component(name="unet"))
    assert raised.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert "lathe[diffusers]" in raised.value.suggested_fix
