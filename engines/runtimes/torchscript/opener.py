"""Opens a frozen TorchScript program, or a network as `torch.export` wrote it. Packages carry this file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from ..opened import OpenedForm
from ..torch_networks.cuda_opener import CudaForm, set_up_cuda
from ..torch_networks.opener import COMPUTES_ON, CPU, CUDA, INPUTS, PACKAGES, TorchForm

__all__ = ["PACKAGES", "open_file"]


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Load the program as its options say; the threads are set for the whole process.

    Raises:
        UnfitMachineError: it computes on a GPU, and there is none.
    """
    import torch

    torch.set_num_threads(threads)
    inputs, on = json.loads(options[INPUTS]), options.get(COMPUTES_ON, CPU)
    if on == CUDA:
        set_up_cuda()
    form = CudaForm if on == CUDA else TorchForm
    if options.get("mode") == "eager":
        return form(torch.export.load(path).module(), inputs)
    jit: Any = torch.jit
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what users run
        program = jit.load(path, map_location=on)
        call = jit.optimize_for_inference(program) if options.get("graph") == "inference" else program
    return form(call, inputs)
