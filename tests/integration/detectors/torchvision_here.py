"""Makes torchvision's operators work beside torch's CPU build: a test aid, no part of Lathe.

The wheel of the package index is built for CUDA, and its library does not load where torch has none. Its operators for
CPUs need nothing of CUDA. Stand-ins, compiled here, take the places of the libraries that are missing; all that their
functions do is return 0.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

_LIBRARIES = ("libc10_cuda.so", "libtorch_cuda.so")


def missing(folder: Path) -> str:
    """Load torchvision, with stand-ins in the folder if it needs them; return why that is impossible, or nothing."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return "torchvision is not installed"
    import torch

    library = Path(found.origin).parent / "_C.so"
    if library.is_file() and torch.version.cuda is None:
        if not shutil.which("gcc") or not shutil.which("nm"):
            return "torchvision is built for CUDA, and there is no compiler for stand-ins of CUDA's libraries"
        _stand_in(library, folder)
    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, OSError, RuntimeError) as error:
        return f"torchvision does not work here: {error}"
    return ""


def _stand_in(library: Path, folder: Path) -> None:
    runtime = next((library.parent.parent / "torchvision.libs").glob("libcudart.*"), None)
    if runtime is not None:
        shutil.copy(runtime, folder / "libcudart.so.13")
        ctypes.CDLL(str(folder / "libcudart.so.13"), ctypes.RTLD_GLOBAL)
    listed = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
    names = {line.split()[-1].partition("@")[0] for line in listed.stdout.splitlines()}
    cuda = sorted(name for name in names if "4cuda" in name and name.startswith("_ZN"))
    source = folder / "cuda.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in cuda))
    for name in _LIBRARIES:
        content = [source] if name == _LIBRARIES[0] else ["-x", "c", "/dev/null"]
        command = ["gcc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{name}", *content, "-o", folder / name]
        subprocess.run(command, check=True)
        ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL)
