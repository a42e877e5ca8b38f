"""The vendor's Python bindings of several releases of TensorRT, and where each has a name.

The wheels hold no library, so that they need stand-ins: libraries of the right names whose functions do nothing. Each
release is imported in a process of its own, as all have one module name. pip fetches the wheels once, a megabyte each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.unit.runtimes.standins import compile_library

_FOLDER = Path(sys.prefix) / "vendor-bindings"
_FUNCTIONS = """
createInferBuilder_INTERNAL createInferRuntime_INTERNAL createInferRefitter_INTERNAL createNvOnnxParser_INTERNAL
createNvOnnxParserRefitter_INTERNAL getBuilderPluginRegistry getPluginRegistry getNvOnnxParserVersion
initLibNvInferPlugins _ZN11nvuffparser15createUffParserEv _ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi
_ZN14nvcaffeparser117createCaffeParserEv _ZN14nvcaffeparser123shutdownProtobufLibraryEv
"""
"""What the bindings call by symbol; the last four, C++ names, only those of TensorRT 8."""
_STAND_IN = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS.split())
_ASK = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
def has(path):
    found = module
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True
print(json.dumps([path for path in json.load(sys.stdin) if has(path)]))
"""


class NotFetchedError(Exception):
    """pip could not fetch a package; the message is the end of what it said."""


@dataclass(frozen=True)
class Release:
    """A release of the vendor's bindings.

    Attributes:
        name: Its name in these tests.
        requirements: The package with its version, and what it imports.
        module: The module to import.
        libraries: Names of the libraries that it is linked against; the first one has the functions.
    """

    name: str
    requirements: tuple[str, ...]
    module: str = "tensorrt_bindings"
    libraries: tuple[str, ...] = ()

    def has(self, names: Collection[str]) -> set[str]:
        """Return which names, dotted paths from the module, this release has.

        Raises:
            NotFetchedError: The package is not here and cannot be fetched.
        """
        packages = [str(_fetched(requirement)) for requirement in self.requirements]
        with tempfile.TemporaryDirectory() as folder:
            for position, library in enumerate(self.libraries):
                compile_library(Path(folder) / library, "" if position else _STAND_IN)
            done = subprocess.run(
                [sys.executable, "-c", _ASK, self.module],
                input=json.dumps(sorted(names)),
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(packages), "LD_LIBRARY_PATH": folder},
            )
        assert done.returncode == 0, f"{self.requirements[0]} cannot be imported: {done.stderr}"
        return set(json.loads(done.stdout))


def tensorrt(requirement: str, major: int, *more: str) -> Release:
    """Return a release of TensorRT."""
    libraries = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser", *more)
    names = tuple(f"{library}.so.{major}" for library in libraries)
    return Release(".".join(requirement.partition("==")[2].split(".")[:2]), (requirement,), libraries=names)


RELEASES = (
    tensorrt("tensorrt-bindings==8.6.1", 8, "libnvparsers"),
    tensorrt("tensorrt-cu12-bindings==10.4.0", 10),
    tensorrt("tensorrt-cu12-bindings==10.16.1.11", 10),
    tensorrt("tensorrt-cu13-bindings==11.4.0.106", 11),
    Release(
        "RTX 1.7",
        ("tensorrt-rtx-cu13-bindings==1.7.1.116",),
        "tensorrt_rtx_bindings",
        ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"),
    ),
)
CUDA = Release("CUDA", ("cuda-bindings==13.5.0", "cuda-pathfinder==1.9.1"), "cuda.bindings.runtime")


def _fetched(requirement: str) -> Path:
    """Return the folder of an unpacked package, which pip fetches the first time.

    Raises:
        NotFetchedError: pip could not.
    """
    folder = _FOLDER / requirement.replace("==", "-")
    if folder.is_dir():
        return folder
    _FOLDER.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=_FOLDER))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(making)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(making, ignore_errors=True)
        raise NotFetchedError(done.stderr.strip()[-300:])
    try:
        making.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(making, ignore_errors=True)
    return folder
