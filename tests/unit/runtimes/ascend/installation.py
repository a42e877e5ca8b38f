"""An installation of CANN whose `atc` is the stand-in: the files that the room looks for, and nothing that compiles."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engines.sandbox.paths import engines_root
from tests.unit.runtimes.ascend import amct_stand_in, atc_stand_in

CHIPS = ("ascend310", "ascend310p", "ascend310b", "ascend910b")


def install(home: Path, *, version: str = "8.5.0", chips: Sequence[str] = CHIPS, devlib: bool = True) -> Path:
    """Write the installation, and return its folder."""
    binary = home / "bin" / "atc"
    binary.parent.mkdir(parents=True)
    program = Path(atc_stand_in.__file__)
    binary.write_text(f'#!/bin/sh\nPYTHONPATH={engines_root()} exec {sys.executable} {program} "$@"\n')
    binary.chmod(0o755)
    for chip in chips:
        (home / "opp/built-in/op_impl/ai_core/tbe/config" / chip).mkdir(parents=True)
    (home / "share/info/ge-compiler").mkdir(parents=True)
    (home / "share/info/ge-compiler/version.info").write_text(f"Version={version}\n")
    if devlib:
        (home / f"{platform.machine()}-linux" / "devlib").mkdir(parents=True)
    return home


def use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name an installation, as its set_env.sh does."""
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(home))


def install_amct(home: Path, *, operators: bool = True) -> Path:
    """Write an environment whose `amct_onnx` is the stand-in, and return its folder.

    Args:
        home: The folder.
        operators: Whether AMCT's library of operators is installed; what stands for it registers none.
    """
    packages = home / "lib/python3.9/site-packages"
    (packages / "amct_onnx-1.2.3.dist-info").mkdir(parents=True)
    (packages / "amct_onnx.py").write_text(
        "import onnxruntime\nAMCT_SO = onnxruntime.SessionOptions()\n"
        if operators
        else "raise ImportError('no library')"
    )
    (home / "bin").mkdir()
    for name, program in (("amct_onnx", amct_stand_in.__file__), ("python3", "")):
        binary = home / "bin" / name
        binary.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} {program} "$@"\n')
        binary.chmod(0o755)
    return home
