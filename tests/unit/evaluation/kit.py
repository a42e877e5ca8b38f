"""Small packages with real graphs, and datasets whose pixels determine the graph's answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.api import evaluation as evaluating
from engines.datasets.index import write_index
from engines.datasets.items import Box, Item
from engines.evaluation.predictions import SamplePrediction, read_predictions
from engines.evaluation.report import EvaluationReport
from engines.imaging import encode_png
from engines.package.manifest import Manifest
from engines.sandbox import Reporter

SIDE = 200
ROWS = 8
"""Boxes that the detector of `detector()` answers."""


def graph(
    nodes: Sequence[Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any], constants: Mapping[str, Any]
) -> Any:
    """A model: types by name are (element type, shape)."""
    model = helper.make_model(
        helper.make_graph(
            list(nodes),
            "graph",
            [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
            [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def scorer(classes: Sequence[int], scale: float = 0.1, batch: int | str = "N") -> Any:
    """A classifier whose scores are the pixels of a grey image of one row, times a scale: one output per task."""
    width, ends = sum(classes), np.cumsum([0, *classes])
    names = [f"scores_{number}" for number in range(len(classes))]
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["all"]),
    ]
    constants: dict[str, Any] = {"shape": np.array([-1, width]), "scale": np.float32(scale), "axis": np.array([1])}
    for number, name in enumerate(names):
        constants |= {f"from_{number}": ends[number : number + 1], f"to_{number}": ends[number + 1 : number + 2]}
        nodes.append(helper.make_node("Slice", ["all", f"from_{number}", f"to_{number}", "axis"], [name]))
    outputs = {name: (TensorProto.FLOAT, [batch, count]) for name, count in zip(names, classes, strict=True)}
    return graph(nodes, {"image": (TensorProto.FLOAT, [batch, 1, 1, width])}, outputs, constants)


def detector() -> Any:
    """A detector that reads its boxes from pixels: a row of x, y, x, y, score * 255, label for each."""
    nodes = [
        helper.make_node("Slice", ["image", "from", "to", "axes"], ["cut"]),
        helper.make_node("Reshape", ["cut", "shape"], ["rows"]),
        helper.make_node("Mul", ["rows", "scale"], ["found"]),
    ]
    constants = {"from": np.array([0, 0]), "to": np.array([ROWS, 6]), "axes": np.array([2, 3])}
    constants |= {"shape": np.array([-1, ROWS, 6]), "scale": np.array([1, 1, 1, 1, 1 / 255, 1], np.float32)}
    inputs = {"image": (TensorProto.FLOAT, ["N", 1, SIDE, SIDE])}
    return graph(nodes, inputs, {"found": (TensorProto.FLOAT, ["N", ROWS, 6])}, constants)


def identity(inputs: Mapping[str, tuple[str, int]], width: int) -> Any:
    """A model with one output per input, `{name}_out`, equal to it: float vectors."""
    nodes = [helper.make_node("Identity", [name], [out]) for name, (out, _) in inputs.items()]
    given = {name: (TensorProto.FLOAT, ["N", width]) for name in inputs}
    made = {out: (TensorProto.FLOAT, ["N", width]) for out, _ in inputs.values()}
    return graph(nodes, given, made, {})


@dataclass
class Desk:
    """A work directory, as a worker lays it out."""

    folder: Path
    items: list[Item] = field(default_factory=list)

    def put_package(
        self,
        model: Any,
        method: str,
        taxonomies: Sequence[tuple[str, Sequence[str]]] = (),
        max_batch: int = 4,
        args: Mapping[str, Any] | None = None,
        **manifest: Any,
    ) -> Manifest:
        (self.folder / "package" / "net").mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(self.folder / "package" / "net" / "model.onnx"))
        inputs, outputs = ([_tensor(v, max_batch) for v in part] for part in (model.graph.input, model.graph.output))
        component = {
            **{"name": "net", "model_type": "", "entry": "net/model.onnx", "files": ["net/model.onnx"]},
            "options": {"graph_optimization_level": "ORT_ENABLE_ALL", "execution_mode": "ORT_SEQUENTIAL"},
            **{"max_batch": max_batch, "num_classes": 0, "preprocessing": {}, "parity": {}},
            "signature": {"inputs": inputs, "outputs": outputs},
        }
        values = {
            **{"repo": "kit", "version": "1", "device": "cpu-x86-64", "precision": "FP32", "report": "report.json"},
            "runtime": {"name": "onnxruntime", "version": onnxruntime.__version__},
            **{"method": method, "args": args or {}, "components": [component]},
            "taxonomies": [{"task": task, "classes": list(classes)} for task, classes in taxonomies],
            "lineage": {
                **{"source_format": "ONNX", "source_digest": "", "template": "", "template_digest": ""},
                "architectures": {},
            },
            "requirements": {"architecture": "x86_64", "packages": {}, "cpu_flags_any": []},
            **manifest,
        }
        made = Manifest.model_validate(values)
        (self.folder / "package" / "manifest.json").write_text(made.to_json())
        return made

    def put_bytes(self, data: bytes, **values: Any) -> None:
        """Add an item with its content."""
        digest = hashlib.sha256(data).hexdigest()
        content = self.folder / "dataset" / "content"
        content.mkdir(parents=True, exist_ok=True)
        (content / digest).write_bytes(data)
        number = len(self.items)
        self.items.append(Item(values.pop("path", f"{number}.png"), digest, len(data), **values))

    def put_scores(self, scores: Sequence[float], **values: Any) -> None:
        """Add an image of one row whose grey values are scores, 0 to 255."""
        image = np.repeat(np.array(scores, np.uint8)[None, :, None], 3, axis=2)
        self.put_bytes(encode_png(image), width=image.shape[1], height=1, **values)

    def put_boxes(self, found: Sequence[Sequence[float]], boxes: Sequence[Box] = (), **values: Any) -> None:
        """Add an image on which `detector()` finds boxes: x, y, x, y, score from 0 to 255, label."""
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        for number, entry in enumerate(found):
            image[number, :6] = np.array(entry, np.uint8)[:, None]
        self.put_bytes(encode_png(image), width=SIDE, height=SIDE, boxes=tuple(boxes), **values)

    def put_tensors(self, arrays: Mapping[str, NDArray[Any]], rows: Sequence[Mapping[str, Any]]) -> None:
        """Add an NPZ file and an item per row."""
        path = self.folder / "arrays.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        for row, values in enumerate(rows):
            self.put_bytes(path.read_bytes(), path="arrays.npz", row=row, **values)

    def run(self, **spec: Any) -> Ran:
        """Evaluate on the items."""
        if self.items:
            write_index(self.folder / "dataset" / "index.parquet", self.items)
        request = {"package": [], "dataset": {"items": str(len(self.items))}, "spec": {"model_version": "", **spec}}
        return self.ask(request)

    def ask(self, request: dict[str, Any]) -> Ran:
        """Run the entry with a request."""
        stages: list[float] = []
        outcome = evaluating.run(request, self.folder, Reporter(lambda progress: stages.append(progress.fraction)))
        assert stages[-1] == 1.0
        assert stages == sorted(stages)
        report = EvaluationReport.model_validate_json((self.folder / "report" / "report.json").read_text())
        rows = list(read_predictions(self.folder / "report" / "predictions.parquet"))
        assert (self.folder / "report" / "report.html").read_text().startswith("<!")
        return Ran(outcome, report, rows)


@dataclass(frozen=True)
class Ran:
    """What an evaluation gave."""

    outcome: dict[str, Any]
    report: EvaluationReport
    rows: list[SamplePrediction]

    def figure(self, name: str, part: str = "") -> float:
        """The value of a metric."""
        return self.interval(name, part)[1]

    def interval(self, name: str, part: str = "") -> tuple[float, float, float]:
        """Low end, value and high end of a metric."""
        found = [entry for entry in self.report.metrics if entry.name == name and entry.slice == part]
        assert len(found) == 1, [(entry.name, entry.slice) for entry in self.report.metrics]
        return found[0].low, found[0].value, found[0].high


def _tensor(value: Any, max_batch: int) -> dict[str, Any]:
    kind = value.type.tensor_type
    extents = [entry.dim_value or max_batch for entry in kind.shape.dim]
    fixed = bool(kind.shape.dim and kind.shape.dim[0].dim_value)
    low = extents if fixed else [1, *extents[1:]]
    shape = {"min": low, "opt": low, "max": extents}
    return {"name": value.name, "dtype": str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), "shape": shape}
