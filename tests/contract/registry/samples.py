"""Model files for tests, each made by the program that users make theirs with."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

# Made by the code in the files below, if anything runs it.
WITNESS = Path("/tmp/lathe-registry-was-here")


def state_dict(width: int = 4, *, key: str = "") -> bytes:
    """Return what `torch.save` writes for a state dict, under `key` if given."""
    import torch

    weights = {"fc.weight": torch.ones(width, 3), "fc.bias": torch.zeros(width)}
    buffer = io.BytesIO()
    torch.save({key: weights, "epoch": 3} if key else weights, buffer)
    return buffer.getvalue()


def onnx_model(operator: str = "Relu", width: int | str = 3) -> bytes:
    """Return an ONNX model of one node with a dynamic batch axis."""
    import onnx
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["batch", width]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {WITNESS}",)


def plain_pickle_with_code() -> bytes:
    """Return a pickle that runs a command when it is loaded."""
    return pickle.dumps({"weights": _Bomb()})


def checkpoint_with_code() -> bytes:
    """Return a checkpoint of today's form whose pickle runs a command when it is loaded."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(state_dict())) as whole, zipfile.ZipFile(buffer, "w") as changed:
        for entry in whole.namelist():
            data = pickle.dumps(_Bomb(), protocol=2) if entry.endswith("data.pkl") else whole.read(entry)
            changed.writestr(entry, data)
    return buffer.getvalue()


def manifest(device: str = "cpu-x86-64") -> bytes:
    """Return the manifest of a package whose one component is the file `main/model.onnx`."""
    extents = {"min": [1, 3], "opt": [1, 3], "max": [8, 3]}
    tensor = {"dtype": "float32", "shape": extents}
    component = {
        "name": "main",
        "model_type": "classifier",
        "entry": "main/model.onnx",
        "files": ["main/model.onnx"],
        "options": {},
        "max_batch": 8,
        "num_classes": 3,
        "signature": {"inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}]},
        "preprocessing": {},
        "parity": {},
    }
    values = {
        "schema_version": 1,
        "repo": "vision",
        "version": "1",
        "device": device,
        "runtime": {"name": "onnxruntime", "version": "1.31.1"},
        "precision": "FP32",
        "method": "classify",
        "args": {},
        "taxonomies": [],
        "components": [component],
        "lineage": {
            "source_format": "PTH",
            "source_digest": "0" * 64,
            "template": "",
            "template_digest": "0" * 64,
            "architectures": {},
        },
        "requirements": {"architecture": "x86_64", "packages": {}, "cpu_flags_any": []},
        "report": "report.json",
    }
    return json.dumps(values).encode()
