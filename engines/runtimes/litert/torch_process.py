"""Runs in litert-torch's own environment: reads a program of `torch.export`, writes a .tflite file.

DIR/bin/python torch_process.py <program.pt2> <model.tflite>
"""

from __future__ import annotations

import sys
import warnings


def _convert(program: str, path: str) -> None:
    import litert_torch
    import torch

    warnings.simplefilter("ignore")
    exported = torch.export.load(program)
    arguments, _ = exported.example_inputs or ((), {})
    litert_torch.convert(exported.module(), arguments).export(path)


if __name__ == "__main__":
    _convert(sys.argv[1], sys.argv[2])
