"""Opens a library that TorchInductor compiled ahead of time. Packages carry this file."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..opened import OpenedForm, UnfitMachineError
from ..torch_networks.cuda_opener import CudaForm, set_up_cuda
from ..torch_networks.opener import COMPUTES_ON, CPU, CUDA, INPUTS, PACKAGES, TorchForm

__all__ = ["ARCHITECTURE", "CAPABILITY", "PACKAGES", "capability", "open_file"]

CAPABILITY = "cpu_capability"
"""Option of a form: the vectors that it was compiled for, by torch's name of the level."""

ARCHITECTURE = "gpu_architecture"
"""Option of a form: the GPU that it was compiled for."""

_LEVELS = ("DEFAULT", "AVX2", "AVX512")


def capability() -> str:
    """Return the widest vectors that torch computes with here: AVX512, AVX2 or DEFAULT."""
    import torch

    name: str = torch.backends.cpu.get_cpu_capability()
    return name if name in _LEVELS else _LEVELS[0]


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Load the library; the threads are set for the whole process.

    Raises:
        UnfitMachineError: it was compiled for wider vectors than this processor has, or for another GPU.
    """
    import torch
    import torch._inductor

    needed, here = options.get(CAPABILITY, ""), capability()
    if needed in _LEVELS and _LEVELS.index(here) < _LEVELS.index(needed):
        raise UnfitMachineError(f"the model was compiled for processors with {needed}; this one offers {here}")
    torch.set_num_threads(threads)
    if options.get(COMPUTES_ON, CPU) == CUDA:
        if (gpu := set_up_cuda()) != options[ARCHITECTURE]:
            raise UnfitMachineError(f"the model was compiled for {options[ARCHITECTURE]}; the GPU here has {gpu}")
        return CudaForm(torch._inductor.aoti_load_package(path), json.loads(options[INPUTS]))
    return TorchForm(torch._inductor.aoti_load_package(path), json.loads(options[INPUTS]))
