"""A model of the zoo as files: what each contestant starts from, made in a process of its own.

weights.pt     the state of the network, so that all processes compute with the same values
model.pt2      torch.export's program: what Lathe is given
model.onnx     torch's own export with fixed shapes: what users give ONNX Runtime, OpenVINO and Olive
feeds.npz      inputs of every turn and comparison
truth.npz      what the network computes of them in float32, by torch alone
calibration.npz, test.npz    data that a user of Lathe hands over
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.tensors import Arrays
from tests.bench.optimizer.zoo import ZOO, Model

FEEDS = 4
"""Inputs that forms are compared on; the first is the one that they are timed on."""


class LayoutError(Exception):
    """The network could not be exported."""


@dataclass(frozen=True)
class Layout:
    """The files of one model."""

    model: Model
    folder: Path
    outputs: tuple[str, ...]

    @property
    def feeds(self) -> list[Arrays]:
        """Inputs by name, in the order of `forward`."""
        return _sets(self.folder / "feeds.npz")

    @property
    def truth(self) -> list[Arrays]:
        """Outputs by name, of each feed."""
        return _sets(self.folder / "truth.npz")

    @classmethod
    def make(cls, model: Model, folder: Path) -> Layout:
        """Lay a model out.

        Raises:
            LayoutError: The export failed, with the end of what it said.
        """
        command = [sys.executable, "-m", "tests.bench.optimizer.layout", model.name, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LayoutError(done.stderr.strip()[-800:])
        outputs = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))
        return cls(model, folder, tuple(outputs))


def _sets(path: Path) -> list[Arrays]:
    """Return what `_write` wrote: arrays named `<set>/<name>`, in order."""
    found: list[Arrays] = []
    with np.load(path) as loaded:
        for key in loaded.files:
            position, _, name = key.partition("/")
            if int(position) == len(found):
                found.append({})
            found[-1][name] = loaded[key]
    return found


def _write(path: Path, sets: list[Arrays]) -> None:
    flat = {f"{position}/{name}": array for position, arrays in enumerate(sets) for name, array in arrays.items()}
    np.savez(path, **flat)  # type: ignore[arg-type]  # names as keywords


def _make(name: str, folder: Path) -> None:
    import torch

    model, network = ZOO[name], ZOO[name].network()
    feeds = model.feeds(FEEDS)
    arguments = [tuple(torch.from_numpy(array) for array in feed.values()) for feed in feeds]
    with torch.inference_mode():
        truth = [network(*values).numpy() for values in arguments]
    torch.save(network.state_dict(), folder / "weights.pt")
    warnings.simplefilter("ignore")
    torch.export.save(torch.export.export(network, arguments[0]), folder / "model.pt2")
    torch.onnx.export(
        network,
        arguments[0],
        folder / "model.onnx",
        input_names=list(feeds[0]),
        output_names=["output"],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    _write(folder / "feeds.npz", feeds)
    _write(folder / "truth.npz", [{"output": array} for array in truth])
    np.savez(folder / "calibration.npz", **model.calibrating())  # type: ignore[arg-type]  # names as keywords
    np.savez(folder / "test.npz", **model.testing())  # type: ignore[arg-type]  # names as keywords
    (folder / "outputs.json").write_text(json.dumps(["output"]), encoding="utf-8")


if __name__ == "__main__":
    _make(sys.argv[1], Path(sys.argv[2]))
