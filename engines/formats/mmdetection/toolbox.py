"""Builds detectors by MMDetection itself. Runs their configuration, which is code: in the sandboxed child only."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.mmdetection.config_files import ADVICE, DetectorFiles
from engines.formats.protocol import not_installed
from engines.formats.torch_export.user_code import failure_of

if TYPE_CHECKING:
    import torch

EXTRA = "mmdetection"
_COMPILED = "mmcv._ext"
_OTHERWISE = (
    "Use a detector of MMDetection's own parts: its configuration says which. If it computes something else, export "
    "it to ONNX where it was trained, and upload that."
)


def toolbox() -> None:
    """Import MMDetection.

    mmcv without its compiled operators (mmcv-lite) gets a module in their place, so that everything else of it works;
    each operator in it says what it is when it is called.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if it is not installed.
    """
    try:
        with _quiet():
            if _COMPILED not in sys.modules and importlib.util.find_spec(_COMPILED) is None:
                sys.modules[_COMPILED] = _Uncompiled(_COMPILED)
            importlib.import_module("mmdet.models")
            scope = importlib.import_module("mmengine.registry")
            scope.init_default_scope("mmdet")
    except ImportError as error:
        raise not_installed("Detectors of MMDetection", "mmdet", EXTRA, error) from error


class _Uncompiled(types.ModuleType):
    """Stands in for mmcv's compiled operators where only its Python part is installed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise EngineFailure(
                FailureReason.UNSUPPORTED_OPERATOR,
                f"The network calls mmcv's compiled operator '{name}', which mmcv-lite does not have.",
                operator=name,
                suggested_fix="Use layers of torch alone (no deformable convolutions), or export the network to ONNX "
                "where mmcv is compiled, and upload that.",
            )

        return refuse


def load_config(files: DetectorFiles) -> Any:
    """Return the configuration as mmengine reads it.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE; INVALID_MODEL or UNSAFE_MODEL with the line of the configuration.
    """
    toolbox()
    from mmengine.config import Config

    for module, folder in files.modules:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            path = folder / f"{module.replace('.', '/')}.py"
            raise failure_of(
                error, f"The module '{module}' cannot be imported: it raised", path, reason=FailureReason.INVALID_MODEL
            ) from error
    try:
        with _quiet():
            config = Config.fromfile(str(files.config), import_custom_modules=False)
    except (Exception, SystemExit) as error:
        raise failure_of(
            error,
            "The configuration cannot be read: it raised",
            files.config,
            reason=FailureReason.INVALID_MODEL,
        ) from error
    if not isinstance(config.get("model"), Mapping):
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The configuration '{files.config.name}' describes no detector: it has no dictionary `model`.",
            suggested_fix=ADVICE,
        )
    return config


def build(config: Any) -> torch.nn.Module:
    """Return the detector of a configuration, with random weights and in evaluation mode. Nothing is downloaded.

    Raises:
        EngineFailure: INVALID_MODEL with what MMDetection says, UNSUPPORTED_OPERATOR for one that is not compiled.
    """
    from mmengine.registry import MODELS

    try:
        with _quiet():
            network: Any = MODELS.build(_without_pretrained(config.model))
    except EngineFailure:
        raise
    except (Exception, SystemExit) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"MMDetection cannot build the detector of the configuration: {type(error).__name__}: {first_line(error)}",
            suggested_fix=_OTHERWISE,
        ) from error
    network.eval().requires_grad_(requires_grad=False)
    return network  # type: ignore[no-any-return]


def _without_pretrained(value: Any) -> Any:
    """Return a part of a configuration without the weights that it would begin training from."""
    if isinstance(value, Mapping):
        kept: Any = type(value)()
        for key, entry in value.items():
            starts = key == "pretrained" or (key == "init_cfg" and isinstance(entry, Mapping) and "checkpoint" in entry)
            kept[key] = None if starts else _without_pretrained(entry)
        return kept
    if isinstance(value, list | tuple):
        return type(value)(map(_without_pretrained, value))
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the toolbox's warnings about its own code from the log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
