"""Stand-ins for libraries of a vendor, compiled from C: they answer, and do nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

COMPILER = os.environ.get("CC", "cc")
needs_compiler = pytest.mark.skipif(
    not shutil.which(COMPILER), reason=f"there is no C compiler `{COMPILER}` to make stand-ins for libraries with"
)


def compile_library(path: Path, source: str, *, soname: str = "") -> Path:
    """Compile C to a shared library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.with_suffix(".c")
    text.write_text(source, encoding="utf-8")
    command = [COMPILER, "-shared", "-fPIC", "-w", f"-Wl,-soname,{soname or path.name}", "-o", str(path), str(text)]
    subprocess.run(command, check=True, capture_output=True)
    return path
