"""Opens a frozen TorchScript program, or a network as `torch.export` wrote it. Packages carry this file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from ..opened import Opened
from ..torch_networks.opener import INPUTS, PACKAGES, Network

__all__ = ["PACKAGES", "open_form"]


def open_form(path: str, options: Mapping[str, str], threads: int) -> Opened:
    """Load the program as its options say; the threads are set for the whole process."""
    import torch

    torch.set_num_threads(threads)
    inputs = json.loads(options[INPUTS])
    if options.get("mode") == "eager":
        return Network(torch.export.load(path).module(), inputs)
    jit: Any = torch.jit
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what users run
        program = jit.load(path, map_location="cpu")
        call = jit.optimize_for_inference(program) if options.get("graph") == "inference" else program
    return Network(call, inputs)
