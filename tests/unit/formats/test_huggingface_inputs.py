"""Inputs that a directory of transformers states: their sizes are told from its configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.failures import EngineFailure
from engines.formats.huggingface.inputs import inputs_of, longest_text
from engines.tensors.inputs import ComponentInput


def _config(**values: Any) -> Any:
    config = SimpleNamespace(vocab_size=50, model_type="bert", **values)
    config.get_text_config = lambda: config
    return config


def _inputs(main_input: str, config: Any, folder: Path, arguments: Sequence[str] = ()) -> tuple[ComponentInput, ...]:
    return inputs_of(config, SimpleNamespace(main_input_name=main_input), dict.fromkeys(arguments), folder)


def test_texts_are_as_long_as_the_model_takes(tmp_path: Path) -> None:
    arguments = ("input_ids", "attention_mask", "token_type_ids")
    config = _config(max_position_embeddings=40, type_vocab_size=2)
    ids, mask, types = _inputs("input_ids", config, tmp_path, arguments)
    assert (ids.min_shape, ids.shape, ids.max_shape) == ((1, 1), (1, 40), (1, 40))
    assert (ids.sample_max, mask.sample_min, types.sample_max) == (49, 1, 1)
    config.type_vocab_size = 1
    assert [given.max_shape for given in _inputs("input_ids", config, tmp_path, arguments)] == [(1, 40)] * 2
    config.max_position_embeddings = 4096
    assert _inputs("input_ids", config, tmp_path, arguments)[0].max_shape == (1, 512)


TINY = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": {},
    "Bart": {"d_model": 8, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1},
    "Data2VecText": {},
    "Esm": {"pad_token_id": 1, "mask_token_id": 4, "position_embedding_type": "absolute"},
    "IBert": {},
    "MPNet": {},
    "MarkupLM": {},
    "Roberta": {"pad_token_id": 7},
    "XLMRoberta": {},
    "Xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_no_longer_than_positions_reach(family: str) -> None:
    import torch
    import transformers

    config = getattr(transformers, f"{family}Config")(**TINY, max_position_embeddings=24, **FAMILIES[family])
    kind = getattr(transformers, f"{family}Model")
    longest = longest_text(kind, config)
    model = kind(config).eval()
    with torch.inference_mode():
        model(input_ids=torch.full((1, longest), 9))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, longest + 1), 9))


def test_the_size_of_images_is_where_configurations_say_it(tmp_path: Path) -> None:
    def size(**values: Any) -> tuple[int, ...]:
        return _inputs("pixel_values", _config(**values), tmp_path)[0].shape

    assert size() == (1, 3, 224, 224)
    assert size(image_size=[32, 64], num_channels=1) == (1, 1, 32, 64)
    sizes = {"size": {"shortest_edge": 96}, "crop_size": {"height": 64, "width": 48}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(sizes))
    assert size() == (1, 3, 64, 48)


def test_sound_is_a_wave_or_frames(tmp_path: Path) -> None:
    def given(name: str, **values: Any) -> ComponentInput:
        (found,) = _inputs(name, _config(**values), tmp_path)
        return found

    wave = given("input_values", conv_kernel=(10, 3))
    assert (wave.min_shape, wave.shape, wave.max_shape) == ((1, 1_600), (1, 16_000), (1, 160_000))
    assert given("input_values", num_mel_bins=8, max_length=32).shape == (1, 32, 8)
    assert given("input_features", num_mel_bins=8, max_source_positions=16).shape == (1, 8, 32)
    with pytest.raises(EngineFailure, match="takes 'input_features', whose shape"):
        given("input_features")
