"""Where a node comes from: the modules of the torch network that both exporters note in the graph.

The newer exporter notes them in the metadata `pkg.torch.onnx.name_scopes`, `['', 'body', 'body.0', 'conv2d']`, the
operation last; the older one in the node's name, `/network/body/body.0/Conv`.
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
        parts = node.name.strip("/").split("/")[:-1]
        names = [".".join(parts[: end + 1]) for end in range(len(parts))]
    return [name.removeprefix(f"{_WRAPPER}.") for name in names if name and name != _WRAPPER]


def innermost(node: Any) -> str:
    """Return the path of the innermost module; empty where the graph does not say."""
    return next(reversed(scopes(node)), "")
