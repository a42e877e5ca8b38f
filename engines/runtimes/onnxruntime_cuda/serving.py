"""How ONNX graphs are served by ONNX Runtime on a GPU.

Triton's backend takes its CUDA provider for an instance on a GPU, with the provider's options as the parameters of its
accelerator. Source: README.md of triton-inference-server/onnxruntime_backend.
"""

from __future__ import annotations

from collections.abc import Mapping

from engines.runtimes.onnxruntime_cuda.opener import PACKAGES, SETTINGS
from engines.runtimes.serving import Serving, TritonBackend, TritonSettings, VersionRule


def _settings(_options: Mapping[str, str], _batch: int) -> TritonSettings:
    accelerator = {"name": "cuda", "parameters": {"use_tf32": SETTINGS["use_tf32"]}}
    return TritonSettings(
        fields={"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}}
    )


SERVING = Serving(
    VersionRule.NEWER,  # as on processors: newer versions read older graphs
    PACKAGES,
    ("onnxruntime/opener.py", "onnxruntime_cuda/opener.py"),
    TritonBackend("onnxruntime", "model.onnx", _settings, instances="KIND_GPU"),
)
