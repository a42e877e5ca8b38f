"""Reads the parts of diffusers pipelines: denoisers, autoencoders, and their text encoders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.files import read_json
from engines.formats.huggingface.configurations import read_config
from engines.formats.huggingface.loading import load_weights_of
from engines.formats.protocol import not_installed
from engines.formats.torch_export.arguments import KeywordNetwork, keyword_network
from engines.spec.template import Component
from engines.tensors.inputs import ComponentInput

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_LIBRARIES = frozenset({"diffusers", "transformers"})
_AUTOENCODER = "vae"
_AUTOENCODER_PARTS = ("vae_encoder", "vae_decoder")
_TOKENS = 77
_TIMESTEPS = 999


def is_part(folder: Path) -> bool:
    """Return whether a directory holds a model of diffusers."""
    return "_class_name" in read_json(folder / "config.json")


def components(folder: Path, component: Component) -> tuple[Component, ...]:
    """Return a component for each part of a pipeline that computes; an autoencoder is two.

    Raises:
        EngineFailure: INVALID_MODEL if there is no part, UNSAFE_MODEL if one asks for code.
    """
    found: list[Component] = []
    for name, entry in read_config(folder, "model_index.json").items():
        library = entry[0] if isinstance(entry, list) and len(entry) == 2 else None
        if library is None or not (folder / name / "config.json").is_file():
            continue
        if library not in _LIBRARIES:
            log.info("'%s' is a part of the pipeline that only checks what it made; it is left out.", name)
            continue
        parts = _AUTOENCODER_PARTS if name == _AUTOENCODER else (name,)
        found += [component.model_copy(update={"name": part, "source_file": name}) for part in parts]
    if not found:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            "The pipeline has none of the parts that its model_index.json names, each in a folder with a config.json.",
            suggested_fix="Upload the whole folder that pipeline.save_pretrained(folder) wrote.",
        )
    return tuple(found)


def load_part(folder: Path, component: Component) -> KeywordNetwork:
    """Return a part of a pipeline with its weights.

    Raises:
        EngineFailure: INVALID_MODEL for a class that diffusers does not have, TOOLCHAIN_UNAVAILABLE if diffusers is
            not installed; as `load_weights_of`.
    """
    config = read_config(folder)
    kind = _class(config)

    def load(**options: Any) -> tuple[torch.nn.Module, Mapping[str, Any]]:
        loaded: tuple[torch.nn.Module, Mapping[str, Any]] = kind.from_pretrained(
            folder, low_cpu_mem_usage=False, **options
        )
        return loaded

    model: Any = load_weights_of(folder, load, "torch_dtype")
    if hasattr(model, "decode"):
        return _autoencoder(model, component)

    def call(network: Any, values: dict[str, Any]) -> Any:
        added = {name: values.pop(name) for name in ("text_embeds", "time_ids") if name in values}
        if added:
            values["added_cond_kwargs"] = added
        return network(**values, return_dict=False)[:1]

    plain = keyword_network(model, model.forward, call, ("out_sample",))
    return replace(plain, arguments=(*plain.arguments, "text_embeds", "time_ids"))


def inputs_of(folder: Path, component: Component) -> tuple[ComponentInput, ...]:
    """Return the inputs of a part, for one sample.

    Raises:
        EngineFailure: INVALID_SPEC for a class whose inputs are not known, INVALID_MODEL for a configuration that does
            not say their shapes.
    """
    config = read_config(folder)
    name = str(config["_class_name"])
    build = partial(_latent, component) if name.startswith("Autoencoder") else _INPUTS.get(name)
    if build is None:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The inputs of a {name} cannot be derived from its configuration.",
            suggested_fix=f"Declare the inputs of component '{component.name}' in the template, by the names that its "
            f"forward gives them; they are known for {', '.join(_INPUTS)} and the autoencoders.",
        )
    try:
        return build(config)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The configuration of the {name} does not say the shapes of its inputs: {type(error).__name__}, "
            f"{first_line(error)}.",
            suggested_fix="Upload the config.json that save_pretrained(folder) wrote, or declare the inputs of "
            f"component '{component.name}' in the template.",
        ) from error


def _class(config: Mapping[str, Any]) -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise not_installed("Pipelines of diffusers", "diffusers", "diffusers", error) from error
    name = str(config["_class_name"])
    found = getattr(diffusers, name, None)
    if isinstance(found, type) and issubclass(found, diffusers.ModelMixin):
        return found
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"The class '{name}' is not a model of diffusers {diffusers.__version__}.",
        suggested_fix="Export this part with torch.export or to ONNX, and upload that.",
    )


def _autoencoder(model: Any, component: Component) -> KeywordNetwork:
    """Return one half: the encoder gives mean and log-variance of the latents, and callers sample from them."""
    if component.name.endswith("encoder"):
        return KeywordNetwork(
            model, ("sample",), lambda network, values: (_moments(network, values["sample"]),), ("latent_parameters",)
        )
    return KeywordNetwork(
        model,
        ("latent_sample",),
        lambda network, values: network.decode(values["latent_sample"], return_dict=False)[:1],
        ("sample",),
    )


def _moments(model: Any, sample: Any) -> Any:
    latents = model.encode(sample, return_dict=False)[0]
    return getattr(latents, "parameters", latents)


def _latent(component: Component, config: Mapping[str, Any]) -> tuple[ComponentInput, ...]:
    sides = _sides(config, usual=512)
    if component.name.endswith("encoder"):
        return (_floats("sample", int(config.get("in_channels", 3)), *sides),)
    scale = 2 ** max(0, len(config.get("block_out_channels", ())) - 1)
    return (
        _floats("latent_sample", int(config.get("latent_channels", 4)), *(max(1, side // scale) for side in sides)),
    )


def _unconditional(config: Mapping[str, Any]) -> tuple[ComponentInput, ...]:
    height, width = _sides(config)
    return (_floats("sample", int(config["in_channels"]), height, width), _timestep())


def _conditional(config: Mapping[str, Any]) -> tuple[ComponentInput, ...]:
    inputs = (*_unconditional(config), _floats("encoder_hidden_states", _TOKENS, _width(config)))
    if config.get("addition_embed_type") != "text_time":
        return inputs
    times = 6
    pooled = int(config["projection_class_embeddings_input_dim"]) - times * int(config["addition_time_embed_dim"])
    return (*inputs, _floats("text_embeds", pooled), _floats("time_ids", times))


def _sd3(config: Mapping[str, Any]) -> tuple[ComponentInput, ...]:
    height, width = _sides(config)
    return (
        _floats("hidden_states", int(config["in_channels"]), height, width),
        _floats("encoder_hidden_states", _TOKENS, int(config["joint_attention_dim"])),
        _floats("pooled_projections", int(config["pooled_projection_dim"])),
        _timestep(),
    )


def _by_class(config: Mapping[str, Any]) -> tuple[ComponentInput, ...]:
    height, width = _sides(config)
    most = int(config["num_embeds_ada_norm"]) - 1
    label = ComponentInput(name="class_labels", shape=(1,), dtype="int64", sample_min=0, sample_max=most)
    return (_floats("hidden_states", int(config["in_channels"]), height, width), _timestep(), label)


def _sides(config: Mapping[str, Any], usual: int = 64) -> tuple[int, int]:
    size = config.get("sample_size") or usual
    return (int(size[0]), int(size[1])) if isinstance(size, list) else (int(size), int(size))


def _width(config: Mapping[str, Any]) -> int:
    width = config["cross_attention_dim"]
    return int(width[0] if isinstance(width, list) else width)


def _floats(name: str, *extents: int) -> ComponentInput:
    return ComponentInput(name=name, shape=(1, *extents), dtype="float32")


def _timestep() -> ComponentInput:
    return ComponentInput(name="timestep", shape=(1,), dtype="int64", sample_min=0, sample_max=_TIMESTEPS)


_INPUTS: dict[str, Callable[[Mapping[str, Any]], tuple[ComponentInput, ...]]] = {
    "UNet2DConditionModel": _conditional,
    "UNet2DModel": _unconditional,
    "SD3Transformer2DModel": _sd3,
    "DiTTransformer2DModel": _by_class,
}
"""Classes whose inputs their configuration says."""
