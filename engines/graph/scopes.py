"""Origin of a node: the modules of the torch network, which both exporters note in the graph.

The newer exporter notes them in the metadata `pkg.torch.onnx.name_scopes`, `['', 'body', 'body.0', 'conv2d']`, the
operation last; the older one in the node's name, `/network/body/body.0/Conv`: a sequence's parts repeat its name.
"""

from __future__ import annotations

import ast
from typing import Any

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
_WRAPPER = "network"


def scopes(node: Any) -> list[str]:
    """Return the dotted paths of the modules that a node lies in, outermost first."""
    stated = next((entry.value for entry in node.metadata_props if entry.key == SCOPES_KEY), None)
    if stated is not None:
        try:
            names = [str(name) for name in ast.literal_eval(stated)][:-1]
        except (ValueError, SyntaxError):
            return []
    else:
        names = _named(node.name.strip("/").split("/")[:-1])
    return [name.removeprefix(f"{_WRAPPER}.") for name in names if name and name != _WRAPPER]


def _named(parts: list[str]) -> list[str]:
    """Return the paths of `layer1/layer1.0/conv1`: a part that repeats the one before it stands in its place."""
    names: list[str] = []
    path, last = "", ""
    for part in parts:
        before = path.removesuffix(last) if last and part.startswith(f"{last}.") else f"{path}." if path else ""
        path, last = before + part, part
        names.append(path)
    return names


def innermost(node: Any) -> str:
    """Return the path of the innermost module; empty if the graph does not state it."""
    return next(reversed(scopes(node)), "")
