"""Runs AMCT's fake-quant model in AMCT's own Python: its operators are in a library that AMCT registers.

    python amct_process.py MODEL FOLDER

FOLDER has `names.json`, the names of the inputs of each feed, and `feed0.npz`…, their arrays in that order; it gets
`outputs0.npz`…, the outputs in the order of the graph. Nothing of the engines is imported: this Python has none of it.
"""

import json
import sys
from pathlib import Path

import amct_onnx
import numpy as np
import onnxruntime


def main(model: str, folder: Path) -> None:
    """Run the model on every feed."""
    session = onnxruntime.InferenceSession(model, amct_onnx.AMCT_SO, providers=["CPUExecutionProvider"])
    for place, names in enumerate(json.loads((folder / "names.json").read_text(encoding="utf-8"))):
        with np.load(folder / f"feed{place}.npz") as kept:
            feed = {name: kept[f"arr_{position}"] for position, name in enumerate(names)}
        np.savez(folder / f"outputs{place}.npz", *session.run(None, feed))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
