"""The process in which TorchInductor compiles: C++ compilers take minutes, and a process can be ended.

python -m engines.runtimes.inductor.compile_process <parent> <exported program> <package to write>
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from engines.runtimes.inductor.opener import capability
from engines.sandbox import syscalls
from engines.sandbox.paths import engines_root
from engines.sandbox.tools import run_tool

if TYPE_CHECKING:
    import torch

_LEVELS = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3", "DEFAULT": "x86-64"}
_TAIL = 2000
_TOOLKIT = Path("/usr/local/cuda")
_CUDA_HEADERS = ("cuda.h", "cuda_runtime.h", "crt/host_config.h", "nv/target")


def cuda_home() -> Path | None:
    """Return the folder of CUDA's headers, of a toolkit or of pip's packages, by which programs for GPUs are compiled.

    None if no folder holds all that torch's own headers include: cudart's, crt's and cccl's.
    """
    stated = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    found = [Path(each) for each in stated if each]
    packages = importlib.util.find_spec("nvidia")  # before a toolkit's: they are of torch's own version of CUDA
    for folder in (packages.submodule_search_locations or ()) if packages else ():
        found += sorted(Path(folder).glob("cu[0-9]*"))
    if compiler := shutil.which("nvcc"):
        found.append(Path(compiler).resolve().parents[1])
    found.append(_TOOLKIT)
    return next((each for each in found if all((each / "include" / name).is_file() for name in _CUDA_HEADERS)), None)


def compile_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Compile a program to a package, in a process that is killed if the work has no time left.

    Raises:
        Overrun: There was not enough time.
        RuntimeError: It cannot be compiled; the message ends with the compiler's output.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "program.pt2"
        torch.export.save(program, given)
        command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), str(given), str(path)]
        environment = {**os.environ, "PYTHONPATH": str(engines_root())}
        if home := cuda_home():
            environment["CUDA_HOME"] = str(home)
        ended = run_tool(command, environment)
    if ended.status:
        raise RuntimeError(ended.text.strip()[-_TAIL:] or f"exit status {ended.status}")


def _compile(program: Path, path: Path) -> None:
    """Compile a program; the compiler's files are in a folder that is removed afterwards."""
    import torch
    from torch._inductor import config

    settings = {
        "freezing": True,  # weights are constants: their layout is chosen once, at compile time
        "cpp.march": _LEVELS[capability()],
        # Compiling torch's headers once costs more than one network saves; these, too, would stay outside the folder.
        "cpp_cache_precompile_headers": False,
        "aot_inductor.precompile_headers": False,
        "cpp.vec_isa_ok": True,  # trust the processor's flags: compile no test program
        "compile_threads": 1,
    }
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        exported = torch.export.load(program)
        with config.patch(settings), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            torch._inductor.aoti_compile_and_package(exported, package_path=str(path))


if __name__ == "__main__":
    syscalls.end_with(int(sys.argv[1]))
    _compile(Path(sys.argv[2]), Path(sys.argv[3]))
