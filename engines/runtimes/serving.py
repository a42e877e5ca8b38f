"""How forms of a runtime are served: by Triton, by the package's own `infer.py`, and on which machines.

Each room states it in its module `serving`, which imports no framework: the registry asks it, too. Anybody may upload a
package, so a runtime that is in no table is answered for, as well.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import ROOMS, module_of


class VersionRule(Enum):
    """Which versions of a runtime may run what was built with another."""

    NEWER = auto()
    SAME_MAJOR = auto()
    EXACT = auto()


@dataclass(frozen=True)
class TritonSettings:
    """The settings that the options of a form make in Triton's configuration.

    Attributes:
        parameters: Parameters of the backend, each a text; empty ones are left out.
        fields: More fields of `inference.ModelConfig`, in its JSON form.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TritonBackend:
    """Triton's backend for a runtime.

    Attributes:
        name: Name of the backend.
        file_name: Name of the file that it opens.
        settings: Returns what a form's options and its largest batch set; the batch is 0 without a batch axis.
        renamed: Suffixes of the files that have to be called like the opened one.
        unsupported: Element types that it does not take.
        takes_scalars: Whether it serves a tensor without axes that has no batch axis either.
        instances: Kind of the instances, as Triton writes it.
    """

    name: str
    file_name: str
    settings: Callable[[Mapping[str, str], int], TritonSettings]
    renamed: tuple[str, ...] = ()
    unsupported: frozenset[str] = frozenset()
    takes_scalars: bool = True
    instances: str = "KIND_CPU"


def _no_flags(_options: Mapping[str, str]) -> frozenset[str]:
    return frozenset()


def _no_other(_options: Mapping[str, str]) -> None:
    return None


def _no_other_chip(_options: Mapping[str, str], _architecture: str) -> bool:
    return False


@dataclass(frozen=True)
class Serving:
    """How forms of a runtime are served.

    Attributes:
        versions: Which versions run them.
        packages: Packages, as `pip` names them, that a form needs; the version of the first is the runtime's.
        carried: Files in `engines/runtimes` that a package carries to open a form, beside `opened.py`.
        triton: Triton's backend; None if it has none.
        flags: Returns the processor flags that a form with some options needs, all of them.
        versions_of: Returns which versions run a form with some options; None if `versions` says it.
        also_on: Returns whether a form with some options runs on an architecture that it was not built for.
        modelarts_folder: Folder of ModelArts' output directory in which such a form is; empty for the directory itself.
    """

    versions: VersionRule = VersionRule.EXACT
    packages: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    triton: TritonBackend | None = None
    flags: Callable[[Mapping[str, str]], frozenset[str]] = _no_flags
    versions_of: Callable[[Mapping[str, str]], VersionRule | None] = _no_other
    also_on: Callable[[Mapping[str, str], str], bool] = _no_other_chip
    modelarts_folder: str = "model"


@functools.cache
def serving(runtime: str) -> Serving:
    """Return how forms of a runtime are served; of one that is not in the table, only its own version may run them."""
    if runtime not in ROOMS:
        return Serving()
    found: Serving = importlib.import_module(module_of(runtime, "serving")).SERVING
    return found


def triton_backend(runtime: str, component: str) -> TritonBackend:
    """Return Triton's backend for the runtime of a component.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if Triton has none.
    """
    backend = serving(runtime).triton
    if backend is None:
        having = ", ".join(name for name in ROOMS if serving(name).triton)
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"Component '{component}' is for the runtime '{runtime}', for which Triton has no backend; it has "
            f"{having}.",
            suggested_fix="Convert the model for one of these runtimes, or serve the package by its own infer.py.",
        )
    return backend
