"""How libraries that TorchInductor compiled are served: on processors with the vectors that they were compiled for."""

from __future__ import annotations

from collections.abc import Mapping

from engines.runtimes.inductor.opener import CAPABILITY, PACKAGES
from engines.runtimes.serving import Serving, VersionRule

_AVX2 = frozenset({"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe"})
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
VECTOR_FLAGS = {"AVX2": _AVX2, "AVX512": _AVX2 | _AVX512}
"""Processor flags of x86-64-v3 and x86-64-v4, by torch's name of the level."""


def _flags(options: Mapping[str, str]) -> frozenset[str]:
    return VECTOR_FLAGS.get(options.get(CAPABILITY, ""), frozenset())


SERVING = Serving(
    VersionRule.EXACT,  # compiled code is linked against the libtorch that compiled it
    PACKAGES,
    ("torch_networks/opener.py", "torch_networks/cuda_opener.py", "inductor/opener.py"),
    flags=_flags,
)
