"""Lathe's engines: a library that converts, quantizes, optimizes and evaluates models, usable without its services.

    from engines import optimize

Importing this package imports no framework.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.api.optimize import optimize

__all__ = ["optimize"]

# OpenVINO and NNCF send statistics of their use, from processes that they fork, where this package can be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: it cannot be
# ONNX Runtime does, too, and warns if it cannot keep a number of the machine in the home directory.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library is silent if its caller sets up no log

_HOME = {"optimize": "engines.api.optimize"}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
