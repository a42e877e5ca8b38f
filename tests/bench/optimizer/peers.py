"""What users get today without Lathe: each runtime as it comes, with no setting but its precision."""

from __future__ import annotations

from pathlib import Path

from engines.runtimes.form import FormSpec, Made
from engines.runtimes.protocol import BuiltForm
from engines.timing.process import FormProcess
from tests.bench.optimizer.layout import Layout

BASELINE = "frozen TorchScript"

PEERS: dict[str, tuple[str, str]] = {
    "eager": ("eager", "FP32"),
    BASELINE: ("frozen", "FP32"),
    "torch.compile": ("compile", "FP32"),
    "ONNX Runtime": ("onnxruntime", "FP32"),
    "OpenVINO f32": ("openvino-f32", "FP32"),
    "OpenVINO": ("openvino", "BF16"),
    "TorchScript bf16": ("frozen-bf16", "BF16"),
}
"""Way of opening it, and the precision that it computes in here, by its name in tables.

OpenVINO's default is bfloat16 on processors that have it, and float32 on others.
"""


class PeerRunner(FormProcess):
    """A runner whose process opens peers."""

    program = "tests.bench.optimizer.peer_process"


def peer(layout: Layout, kind: str, precision: str, file: Path | None = None) -> Made:
    """Return a peer as the runner takes it.

    Args:
        layout: The model.
        kind: Way of opening it: see `peer_process`.
        precision: What it computes in, for tables.
        file: The ONNX file, if it is not the model's own.
    """
    path = file or layout.folder / ("model.onnx" if kind.startswith(("onnx", "openvino")) else "weights.pt")
    options = {
        "model": layout.model.name,
        "feed": str(layout.folder / "feeds.npz"),
        "cache": str(layout.folder / "inductor"),
    }
    form = BuiltForm(kind, "cpu-x86-64", precision, path.parent, (path.name,), layout.outputs, options)
    return Made(FormSpec(kind, precision), form)
