"""Rules for architectures, checked on their text alone; nothing of it is ever run."""

from __future__ import annotations

import hashlib

import yaml
from lathe.registry.v1.architecture_service_pb2 import Architecture

from engines.formats.pytorch.architecture import ArchitectureError, inspect_architecture
from services.platform.errors import LatheError, invalid_argument


def complete(architecture: Architecture) -> None:
    """Check source, class name and configuration of `architecture`, and set `function` and `digest` from them.

    Raises:
        LatheError: INVALID_ARGUMENT with the field and, if there is one, the line.
    """
    architecture.function = _function(architecture)
    _check_config(architecture.config)
    architecture.digest = content_digest(architecture.source, architecture.config)


def content_digest(source: str, config: str) -> str:
    """Return the SHA-256 over source and configuration, by which a task names exactly what it used."""
    # A source holds no null byte (it would not parse), so that no two pairs give the same bytes.
    return hashlib.sha256(source.encode() + b"\0" + config.encode()).hexdigest()


def _function(architecture: Architecture) -> str:
    try:
        info = inspect_architecture(architecture.source)
    except ArchitectureError as error:
        raise invalid_argument("architecture.source", str(error), reason="INVALID_ARCHITECTURE") from error
    if info.class_name != architecture.class_name:
        raise invalid_argument(
            "architecture.class_name",
            f"The decorator of '{info.function}' (line {info.line}) says '{info.class_name}', but class_name says "
            f"'{architecture.class_name}'. Both must be the same; change one of them.",
            reason="CLASS_NAME_MISMATCH",
        )
    return info.function


def _check_config(config: str) -> None:
    if not config.strip():
        return
    try:
        values = yaml.safe_load(config)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise _bad_config(f"{line}The configuration is neither YAML nor JSON: {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise _bad_config(f"The configuration is neither YAML nor JSON: {error}.") from error
    except RecursionError:
        raise _bad_config("The configuration is nested too deeply; write it flatter.") from None
    if not isinstance(values, dict):
        raise _bad_config(
            f"The configuration is a {type(values).__name__}; it must be a mapping of keyword arguments, "
            "such as 'num_classes: 10'."
        )
    for key in values:
        if not isinstance(key, str) or not key.isidentifier():
            raise _bad_config(f"The key {key!r} of the configuration cannot be a keyword argument.")


def _bad_config(description: str) -> LatheError:
    return invalid_argument("architecture.config", description, reason="INVALID_CONFIG")
