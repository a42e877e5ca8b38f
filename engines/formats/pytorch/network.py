"""Builds the network of an architecture file. Runs the file: in the sandboxed child only."""

from __future__ import annotations

import inspect
import linecache
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from engines.failures import EngineFailure, FailureReason
from engines.formats.pytorch.architecture import ArchitectureError, ArchitectureInfo, inspect_architecture
from engines.formats.torch_export.user_code import failure_of

if TYPE_CHECKING:
    import torch

MODULE_NAME = "lathe_architecture"


def build_network(path: Path, *, class_name: str = "", config: str = "", num_classes: int = 0) -> torch.nn.Module:
    """Run the architecture file and return the network that its last function builds.

    Args:
        path: The Python file.
        class_name: The string that the decorator must carry; any if empty.
        config: YAML or JSON mapping of keyword arguments; none if empty.
        num_classes: Passed as `num_classes` if it is not 0 and the function takes it.

    Raises:
        EngineFailure: INVALID_ARCHITECTURE with the line of the file at which it fails; INVALID_SPEC for a bad config.
    """
    import torch

    source = _read(path)
    info = _declared(source, class_name)
    function = _execute(path, source)[info.function]
    arguments = _arguments(function, info, parse_config(config), num_classes)
    try:
        network = function(**arguments)
    except (Exception, SystemExit) as error:
        raise failure_of(error, f"'{info.function}' raised", path) from error
    if not isinstance(network, torch.nn.Module):
        raise _invalid(
            f"'{info.function}' returned a {type(network).__name__}, not a torch.nn.Module.",
            "Return an instance of the network from the last function of the file.",
        )
    return network


def parse_config(text: str) -> dict[str, Any]:
    """Return the keyword arguments of a YAML or JSON mapping.

    Raises:
        EngineFailure: INVALID_SPEC if the text is not one.
    """
    try:
        values = yaml.safe_load(text) if text.strip() else {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = " ".join(str(error).split())[:300]
        raise EngineFailure(
            FailureReason.INVALID_SPEC, f"The configuration is not valid YAML or JSON: {where}."
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) and key.isidentifier() for key in values):
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            "The configuration must be a mapping whose keys are names of arguments of the architecture's function.",
        )
    return values


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _invalid("The architecture file is not UTF-8 text.", "Upload the Python file itself.") from error


def _declared(source: str, class_name: str) -> ArchitectureInfo:
    try:
        info = inspect_architecture(source)
    except ArchitectureError as error:
        raise _invalid(str(error), "") from error
    if class_name and info.class_name != class_name:
        raise _invalid(f"The architecture file declares '{info.class_name}' instead of '{class_name}'.", "")
    return info


def _execute(path: Path, source: str) -> dict[str, Any]:
    """Run the file as a module of its own, in which `architecture` is defined, and return its globals."""
    module = types.ModuleType(MODULE_NAME)
    module.__file__ = str(path)
    vars(module)["architecture"] = lambda _name: lambda function: function
    sys.modules[MODULE_NAME] = module  # dataclasses, pickling and inspection look a class's module up there
    linecache.checkcache(str(path))
    try:
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102 — the purpose of this module
    except (Exception, SystemExit) as error:
        raise failure_of(error, "The architecture file cannot be imported: it raised", path) from error
    return vars(module)


def _arguments(
    function: Callable[..., Any], info: ArchitectureInfo, config: dict[str, Any], num_classes: int
) -> dict[str, Any]:
    if not callable(function):
        raise _invalid(f"A decorator made '{info.function}' a {type(function).__name__}, which cannot be called.", "")
    signature = inspect.signature(function)
    arguments = dict(config)
    if num_classes and "num_classes" in signature.parameters:
        arguments["num_classes"] = num_classes
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise _invalid(
            f"'{info.function}{signature}' (line {info.line}) cannot be called with the arguments "
            f"{sorted(arguments) or 'none'}: {error}.",
            "Make the keys of the configuration equal the function's arguments, or give these defaults.",
        ) from error
    return arguments


def _invalid(message: str, advice: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_ARCHITECTURE, message, suggested_fix=advice)
