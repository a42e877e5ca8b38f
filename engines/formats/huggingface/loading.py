"""Loads models of transformers from their directories: no network, no remote code, and every weight in its place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.huggingface.description import read_weights, weight_files
from engines.formats.torch_export.module_source import listing

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def load_config(folder: Path, values: Mapping[str, Any]) -> Any:
    """Return the configuration as transformers reads it.

    Raises:
        EngineFailure: INVALID_MODEL for a type of model that transformers does not have.
    """
    import transformers

    try:
        with quiet():
            return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        log.exception("transformers refused the configuration")
        kind = values.get("model_type")
        what = f"The model type '{kind}'" if kind else "The configuration names no model_type; it"
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"{what} cannot be read by transformers {transformers.__version__}: {' '.join(str(error).split())[:300]}",
            suggested_fix="Use a model_type that this release of transformers has, or export the model to ONNX.",
        ) from error


def model_class(architecture: str, config: Any) -> Any:
    """Return the class of transformers with this name; if there is no name, the one without a head.

    Raises:
        EngineFailure: INVALID_MODEL if transformers has no such class, TOOLCHAIN_UNAVAILABLE if it needs a
            package that is not installed.
    """
    import transformers

    bare = transformers.MODEL_MAPPING.get(type(config), None)
    found = getattr(transformers, architecture, None) if architecture else bare
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"The architecture '{architecture}' is unknown to transformers {transformers.__version__}."
        if architecture
        else "'config.json' names no architecture, and its model type has no default one.",
        suggested_fix="Name an architecture of transformers under 'architectures' in config.json, or export the model "
        "with torch.export or to ONNX on a machine that may run its code.",
    )


def load_model(folder: Path, kind: Any, config: Any) -> torch.nn.Module:
    """Return a model of transformers with its weights, in float32 and evaluation mode.

    Args:
        folder: Its directory.
        kind: Its class.
        config: Its configuration.

    Raises:
        EngineFailure: as `load_weights_of`.
    """

    def load(**options: Any) -> tuple[torch.nn.Module, Mapping[str, Any]]:
        # A configuration may name a kernel of attention that must be fetched: None takes torch's own, part by part.
        loaded: tuple[torch.nn.Module, Mapping[str, Any]] = kind.from_pretrained(
            folder, config=config, trust_remote_code=False, attn_implementation=None, **options
        )
        return loaded

    config.use_cache = False
    return load_weights_of(folder, load, "dtype")


def load_weights_of(
    folder: Path, load: Callable[..., tuple[torch.nn.Module, Mapping[str, Any]]], dtype: str
) -> torch.nn.Module:
    """Return what `load` loads from a directory, whose files were looked through first.

    Args:
        folder: The directory.
        load: Takes options of `from_pretrained`; returns the model, and what did not fit.
        dtype: Name of the option that says in which numbers the weights are kept.

    Raises:
        EngineFailure: INVALID_MODEL or UNSAFE_MODEL for the files, WEIGHTS_MISMATCH if weights do not fit the
            configuration, TOOLCHAIN_UNAVAILABLE if the model needs a package that is not installed.
    """
    import torch

    files = weight_files(folder)
    for path in files:
        read_weights(path)
    safe = files[0].suffix == ".safetensors"
    try:
        with quiet():
            model, found = load(
                local_files_only=True,
                use_safetensors=safe,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **{dtype: torch.float32},
            )
    except ImportError as error:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"The model needs a package that is not installed: {first_line(error)}",
            suggested_fix="Export the model to ONNX on a machine that has the package, and upload that.",
        ) from error
    except Exception as error:
        log.exception("The model cannot be loaded")
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The model cannot be built from its configuration and weights: {first_line(error)}",
            suggested_fix="Load it with from_pretrained(folder) and save it again with save_pretrained(folder).",
        ) from error
    _check_fit(model, found)
    return model.eval().requires_grad_(requires_grad=False)


def _check_fit(model: torch.nn.Module, found: Mapping[str, Any]) -> None:
    """Refuse weights that are missing, of another shape, or left over within a part of the body that the model has.

    Heads that the architecture does not have may be left over: checkpoints of pre-training hold several.
    """
    prefix = str(getattr(model, "base_model_prefix", ""))
    children = {name for name, _ in getattr(model, prefix or "-", model).named_children()}
    missing = sorted(map(str, found.get("missing_keys") or ()))
    shapes = sorted(found.get("mismatched_keys") or (), key=str)
    left = sorted(map(str, found.get("unexpected_keys") or ()))
    inside = [key for key in left if key.removeprefix(f"{prefix}.").partition(".")[0] in children]
    if set(left) - set(inside):
        log.info("Weights of heads that the architecture does not have are passed over: %s", ", ".join(left[:20]))
    if not missing and not shapes and not inside:
        return
    parts = (
        listing("missing", missing),
        listing("left over", inside),
        listing(
            "of another shape", [f"{key} (weights {_shape(a)}, configuration {_shape(b)})" for key, a, b in shapes]
        ),
    )
    raise EngineFailure(
        FailureReason.WEIGHTS_MISMATCH,
        f"The weights do not fit the configuration: {len(missing)} missing, {len(inside)} left over, {len(shapes)} of "
        "another shape.",
        evidence="\n".join(filter(None, parts)),
        suggested_fix="Upload config.json and weights of one and the same model, as save_pretrained(folder) wrote "
        "them.",
    )


def _shape(shape: Sequence[int]) -> str:
    return "*".join(map(str, shape)) or "scalar"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' notes and progress bars out of the log; failures say what matters of them."""
    from transformers.utils import logging as transformers_logging

    notes: Any = transformers_logging
    level, bars = notes.get_verbosity(), notes.is_progress_bar_enabled()
    notes.set_verbosity_error()
    notes.disable_progress_bar()
    try:
        yield
    finally:
        notes.set_verbosity(level)
        if bars:
            notes.enable_progress_bar()
