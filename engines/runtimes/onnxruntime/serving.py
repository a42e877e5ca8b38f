"""How ONNX graphs are served by ONNX Runtime.

Triton's backend takes `max_batch_size` over 0 only if axis 0 of every input and output is dynamic, and sets one of its
own if all are and none is given. `optimization.graph.level` is the graph optimization (absent is all, 1 extended,
-1 basic, 2 none); `execution_mode` is a parameter. Source: README.md and src/ of
triton-inference-server/onnxruntime_backend.
"""

from __future__ import annotations

from collections.abc import Mapping

from engines.runtimes.onnxruntime.opener import PACKAGES
from engines.runtimes.serving import Serving, TritonBackend, TritonSettings, VersionRule

_LEVELS = {"ORT_DISABLE_ALL": 2, "ORT_ENABLE_BASIC": -1, "ORT_ENABLE_EXTENDED": 1}
_MODES = {"ORT_SEQUENTIAL": "0", "ORT_PARALLEL": "1"}


def _settings(options: Mapping[str, str], _batch: int) -> TritonSettings:
    level = _LEVELS.get(options.get("graph_optimization_level", ""))
    return TritonSettings(
        {"execution_mode": _MODES.get(options.get("execution_mode", ""), "")},
        {} if level is None else {"optimization": {"graph": {"level": level}}},
    )


SERVING = Serving(
    # "Newer versions of ONNX Runtime support all models that worked with prior versions".
    VersionRule.NEWER,
    PACKAGES,
    ("onnxruntime/opener.py",),
    TritonBackend("onnxruntime", "model.onnx", _settings),
)
