"""Opens a frozen TorchScript program, or a network as `torch.export` wrote it. Packages carry this file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from ..opened import OpenedForm
from ..torch_networks.opener import INPUTS, PACKAGES, TorchForm

__all__ = ["PACKAGES", "open_file"]


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Load the program as its options say; the threads are set for the whole process."""
    import torch

    torch.set_num_threads(threads)
    inputs = json.loads(options[INPUTS])
    if options.get("mode") == "eager":
        return TorchForm(torch.export.load(path).module(), inputs)
    jit: Any = torch.jit
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what users run
        program = jit.load(path, map_location="cpu")
        call = jit.optimize_for_inference(program) if options.get("graph") == "inference" else program
    return TorchForm(call, inputs)
