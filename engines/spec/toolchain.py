"""Versions of the programs that take part in work, and the hardware, found without importing any framework.

Both are part of the action cache's key: equal work with equal tools on equal hardware is done once.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path

CPU_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimdhp",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
)
"""Processor flags by which runtimes choose kernels, which changes results."""


def software(packages: Iterable[str]) -> list[dict[str, str]]:
    """Return name and version of each package that is installed, as `lathe.type.v1.Software`, sorted by name."""
    return [{"name": name, "version": version} for name, version in versions(packages).items()]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that is installed, by name, sorted."""
    found = {name: version_of(name) for name in packages}
    return {name: version for name, version in sorted(found.items()) if version}


def version_of(package: str) -> str:
    """Return the version of an installed distribution; empty if it is not installed, or its files are out of reach.

    A sandboxed child cannot read what pip leaves in the folder of an editable install.
    """
    try:
        return importlib.metadata.version(package) or ""
    except importlib.metadata.PackageNotFoundError:
        return ""


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Return model name and the `CPU_FLAGS` present in the text of `/proc/cpuinfo`, x86 or ARM."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip().lower(), value.strip())
    present = set((fields.get("flags") or fields.get("features") or "").split())
    model = fields.get("model name") or fields.get("cpu model") or ""
    return model, tuple(flag for flag in CPU_FLAGS if flag in present)


@functools.cache
def cpu() -> tuple[str, tuple[str, ...]]:
    """Return model name and `CPU_FLAGS` of this machine's processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    model, flags = parse_cpuinfo(text)
    return model or platform.processor() or platform.machine(), flags


def hardware() -> str:
    """Return this machine's processor for people: `AMD EPYC (avx2 avx512f avx512_vnni)`."""
    model, flags = cpu()
    return f"{model} ({' '.join(flags)})" if flags else model


def fingerprint() -> dict[str, str]:
    """Return the properties of this machine that may change a result: architecture, processor model and flags."""
    model, flags = cpu()
    return {"machine": platform.machine(), "cpu": model, "flags": " ".join(flags)}


def available_threads() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0))
