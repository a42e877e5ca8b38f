"""A child process for untrusted engine work: no network, no writing outside its work directory, bounded resources.

    child = await Child.spawn(workdir, preload=["torch"])
    result = await child.run("package.module:function", request, Limits(8 << 30, 600), on_progress, on_log)

The boundary is made of kernel layers (namespaces, Landlock, seccomp, resource limits), as many as the machine allows;
`Child.sandbox.describe()` names them. A Python audit hook explains what code attempted; it is not a boundary.

Importing this package imports no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.sandbox.outcome import Died
    from engines.sandbox.parent import Child, Killed, run_sync
    from engines.sandbox.types import DEATHS, Layer, Limits, Progress, Reporter, Sandbox

_HOME = {
    "DEATHS": "types",
    "Child": "parent",
    "Died": "outcome",
    "Killed": "parent",
    "Layer": "types",
    "Limits": "types",
    "Progress": "types",
    "Reporter": "types",
    "Sandbox": "types",
    "run_sync": "parent",
}
__all__ = ["DEATHS", "Child", "Died", "Killed", "Layer", "Limits", "Progress", "Reporter", "Sandbox", "run_sync"]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used, so that the child does not pay for the parent's imports."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
