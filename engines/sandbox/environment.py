"""The environment variables of the child: an allow-list, and a home of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PRIVATE = ".sandbox"
"""Folder in the work directory that holds the child's home and temporary files."""

ARM_EMULATOR = "LATHE_ARM_EMULATOR"
LITERT_TORCH = "LATHE_LITERT_TORCH"
AMCT = "LATHE_AMCT"
CANN = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH")
"""Variables with the folders of Ascend's toolkit, which its `set_env.sh` sets."""
TOOLS = (ARM_EMULATOR, LITERT_TORCH, AMCT, *CANN)
"""Variables that name folders of tools outside Lathe's own environment; a child may read and run what is in them."""

_KEPT = frozenset(
    [
        "PATH",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "LD_LIBRARY_PATH",
        "OMP_NUM_THREADS",
        "OMP_PROC_BIND",
        "OMP_PLACES",
        "OMP_WAIT_POLICY",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "KMP_AFFINITY",
        "KMP_BLOCKTIME",
        "GOMP_CPU_AFFINITY",
        "ONEDNN_MAX_CPU_ISA",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_HOME",
        "CUDA_PATH",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
        "ASCEND_AICPU_PATH",
        "ASCEND_VISIBLE_DEVICES",
        "TOOLCHAIN_HOME",
        *TOOLS,
    ]
)
_FIXED = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


def child_environment(workdir: Path, import_root: Path, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the whole environment of a child.

    Args:
        workdir: The child's work directory; home and temporary directory lie in it.
        import_root: Directory that holds the `engines` package.
        inherited: The caller's environment; only names on the allow-list are taken from it.
    """
    private = workdir / PRIVATE
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **{name: value for name, value in inherited.items() if name in _KEPT},
        **_FIXED,
        "HOME": str(private / "home"),
        "TMPDIR": str(private / "tmp"),
        "XDG_CACHE_HOME": str(private / "home" / ".cache"),
        "PYTHONPATH": str(import_root),
    }


def make_private_folders(workdir: Path) -> None:
    """Create the child's home and temporary directory."""
    for name in ("home", "tmp"):
        (workdir / PRIVATE / name).mkdir(mode=0o700, parents=True, exist_ok=True)
