"""How IRs are served by OpenVINO.

Triton's backend fixes the batch at `max_batch_size` when it loads a batching model, and refuses every other one unless
`ENABLE_BATCH_PADDING` is on: it is, and the price is that a call always computes a full batch. Its parameters are
`PERFORMANCE_HINT`, `NUM_STREAMS`, `INFERENCE_NUM_THREADS` and `HINT_BF16`; none of them asks for float32, so that it
computes a float32 package in bfloat16 on a processor that has such arithmetic. Source: README.md and src/ of
triton-inference-server/openvino_backend.
"""

from __future__ import annotations

from collections.abc import Mapping

from engines.runtimes.openvino.opener import PACKAGES
from engines.runtimes.serving import Serving, TritonBackend, TritonSettings, VersionRule

_SAME_NAMES = ("PERFORMANCE_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS")
_NO_FLOAT32 = (
    "Triton's OpenVINO backend has no parameter that asks for float32: on a processor with bfloat16 arithmetic it "
    "computes in bfloat16, which is not what parity was measured with."
)


def _settings(options: Mapping[str, str], batch: int) -> TritonSettings:
    hint = options.get("INFERENCE_PRECISION_HINT")
    return TritonSettings(
        {name: options.get(name, "") for name in _SAME_NAMES}
        | {
            "HINT_BF16": "YES" if hint == "bf16" else "",
            "lathe.note": _NO_FLOAT32 if hint == "f32" else "",
            "ENABLE_BATCH_PADDING": "YES" if batch > 1 else "",
        }
    )


SERVING = Serving(
    # Releases read the IR of earlier ones; models are published for a version "and higher".
    VersionRule.NEWER,
    PACKAGES,
    ("openvino/opener.py",),
    TritonBackend(
        "openvino",
        "model.xml",
        _settings,
        renamed=(".bin",),
        unsupported=frozenset({"float64", "bfloat16", "string"}),
        takes_scalars=False,
    ),
)
