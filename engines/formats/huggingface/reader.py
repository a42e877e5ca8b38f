"""Reads Hugging Face directories into ONNX: models of transformers, and through `diffusers` the parts of pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason, invalid
from engines.formats.huggingface import diffusers
from engines.formats.huggingface.configurations import companions, read_config
from engines.formats.huggingface.inputs import (
    LARGEST_BATCH,
    hidden_input,
    inputs_of,
    longest_text,
    mask_input,
    sound_input,
    text_input,
)
from engines.formats.huggingface.loading import load_config, load_model, model_class
from engines.formats.huggingface.tasks import DECODER, ENCODER, SEQ2SEQ, Task, task_of
from engines.formats.source import Source
from engines.formats.torch_export.arguments import KeywordNetwork, keyword_network
from engines.formats.torch_export.forward import to_tensors
from engines.formats.torch_export.module_source import module_source
from engines.spec.open_axes import Declared, shape_in_words
from engines.spec.template import Component
from engines.tensors import Array
from engines.tensors.inputs import ComponentInput

_DECODER_INPUTS = ("decoder_input_ids", "encoder_hidden_states", "encoder_attention_mask")


@dataclass(frozen=True)
class _Described:
    """A directory of transformers, by its configuration."""

    folder: Path
    config: Any
    kind: Any
    task: Task

    @classmethod
    def of(cls, folder: Path) -> _Described:
        values = read_config(folder)
        names = values.get("architectures") or [""]
        if not isinstance(names, list):
            raise EngineFailure(
                FailureReason.INVALID_MODEL,
                f"'architectures' in config.json must be a list of names, not {str(names)[:200]}.",
                suggested_fix="Upload the config.json that save_pretrained(folder) wrote.",
            )
        task = task_of(str(names[0]))
        config = load_config(folder, values)
        kind = model_class(str(names[0]), config)
        if task is SEQ2SEQ and not getattr(config, "is_encoder_decoder", False):
            raise EngineFailure(
                FailureReason.INVALID_MODEL,
                f"The architecture '{names[0]}' writes text from more than one kind of input, which Lathe "
                "does not read.",
                suggested_fix="Export its parts (the vision tower, the language model) with torch.export or to ONNX, "
                "and upload these.",
            )
        return cls(folder, config, kind, task)

    @property
    def hears(self) -> bool:
        return bool(self.kind.main_input_name == "input_features")

    @property
    def is_two(self) -> bool:
        """Whether it is read as an encoder and a decoder."""
        return self.task is SEQ2SEQ and self.kind.main_input_name in {"input_ids", "input_features"}


def read_huggingface(
    folder: Path, root: Path, component: Component, arguments: Sequence[Array], onnx_path: Path
) -> Source:
    """Return a model of a Hugging Face directory as a source.

    Args:
        folder: The model's folder.
        root: The whole directory, in which tokenizers may be.
        component: The component, its inputs declared.
        arguments: One array per argument of the network, preprocessed.
        onnx_path: Where the ONNX file goes.

    Raises:
        EngineFailure: INVALID_MODEL, UNSAFE_MODEL, WEIGHTS_MISMATCH or TOOLCHAIN_UNAVAILABLE for the directory;
            INVALID_SPEC for inputs that the model does not take; as `module_source`.
    """
    network = _network(folder, component)
    _check_inputs(network, component)
    module = network.taking([given.name for given in component.inputs])
    outputs = module.find_outputs(to_tensors(arguments))
    travelling = companions(root, folder)
    return module_source(module, component, arguments, onnx_path, output_names=outputs, companions=travelling)


def huggingface_inputs(folder: Path, component: Component) -> Declared:
    """Return the component with the inputs of its task: batch and length of texts dynamic, images of one size.

    A warning says what was taken from the configuration and from the defaults.

    Raises:
        EngineFailure: as `read_huggingface`.
    """
    inputs = diffusers.inputs_of(folder, component) if diffusers.is_part(folder) else _inputs(folder, component)
    most = component.max_batch or LARGEST_BATCH
    shapes = ", ".join(f"{given.name} {shape_in_words(given)}" for given in inputs)
    words = (
        f"Nothing declares the inputs, so they are taken from config.json and from defaults: {shapes}, batches of "
        f"up to {most}. For others, declare the inputs in the template or in tensor information, and set max_batch."
    )
    return Declared(component.model_copy(update={"inputs": inputs, "max_batch": most}), (words,))


def huggingface_components(folder: Path, component: Component) -> tuple[Component, ...]:
    """Return the components that a whole directory is read as: the parts of a pipeline, encoder and decoder, or one.

    Args:
        folder: The model's directory.
        component: The template's only component; its settings are those of each.
    """
    if (folder / "model_index.json").is_file():
        return diffusers.components(folder, component)
    if component.name in {ENCODER, DECODER} or diffusers.is_part(folder):
        return (component,)
    if not _Described.of(folder).is_two:
        return (component,)
    return tuple(component.model_copy(update={"name": name}) for name in (ENCODER, DECODER))


def _network(folder: Path, component: Component) -> KeywordNetwork:
    if diffusers.is_part(folder):
        return diffusers.load_part(folder, component)
    described = _Described.of(folder)
    if described.is_two:
        _check_part(component)
    model = load_model(folder, described.kind, described.config)
    if not described.is_two:
        return keyword_network(model, model.forward, _call, described.task.outputs)
    if component.name == ENCODER:
        part = model.get_encoder()  # type: ignore[operator]
        return keyword_network(part, part.forward, _call, ("last_hidden_state",))
    return KeywordNetwork(model, _DECODER_INPUTS, _decode, SEQ2SEQ.outputs)


def _call(network: Any, values: dict[str, Any]) -> Any:
    return network(**values)


def _decode(network: Any, values: dict[str, Any]) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    return network(
        decoder_input_ids=values["decoder_input_ids"],
        encoder_outputs=BaseModelOutput(last_hidden_state=values["encoder_hidden_states"]),
        attention_mask=values.get("encoder_attention_mask"),
        use_cache=False,
    )


def _inputs(folder: Path, component: Component) -> tuple[ComponentInput, ...]:
    described = _Described.of(folder)
    if described.is_two:
        _check_part(component)
        if component.name == DECODER:
            text, hidden, mask = _DECODER_INPUTS
            longest = longest_text(described.kind, described.config)
            inputs = (text_input(text, described.config, longest), hidden_input(hidden, described.config, longest))
            return inputs if described.hears else (*inputs, mask_input(mask, longest))
        if described.hears:
            return (sound_input(described.kind.main_input_name, described.config),)
    arguments = inspect.signature(described.kind.forward).parameters
    return inputs_of(described.config, described.kind, arguments, folder)


def _check_part(component: Component) -> None:
    if component.name not in {ENCODER, DECODER}:
        raise invalid(
            f"The model has an encoder and a decoder: it is read as two components, '{ENCODER}' and '{DECODER}', and "
            f"the template's is called '{component.name}'. Leave the components to Lathe, or name them so."
        )


def _check_inputs(network: KeywordNetwork, component: Component) -> None:
    unknown = [given.name for given in component.inputs if not network.takes(given.name)]
    if unknown:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"Component '{component.name}' declares the input '{unknown[0]}'; the model's forward takes "
            f"{', '.join(network.arguments)}.",
            suggested_fix="Declare inputs by the names that forward gives them, or none: the configuration then states "
            "them.",
        )
