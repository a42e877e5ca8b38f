"""Makes the quantized graphs of one component, each once, and orders their nodes by cost."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.preparation import Prepared
from engines.graph.execution import make_ready
from engines.graph.hygiene import load_model, save_model
from engines.graph.nodes import name_nodes, separate_integers
from engines.graph.walk import all_tensors
from engines.quantization.amct_quantizer import AmctQuantizer
from engines.quantization.coverage import Coverage, coverage_of, nothing_quantized
from engines.quantization.direct_quantizers import AsItIs, CompressedWeights
from engines.quantization.onnxruntime_quantizers import StaticQdq
from engines.quantization.quantizers import NOTES, Material
from engines.quantization.recipes import Recipe
from engines.quantization.request import HALVES
from engines.quantization.sensitivity import BUDGET_SECONDS, NodeSensitivity, sensitivities
from engines.runtimes import BuiltForm
from engines.runtimes.form import FormSpec
from engines.runtimes.onnxruntime.runtime import OnnxRuntime
from engines.spec.template import Execution
from engines.tensors.samples import Samples

log = logging.getLogger(__name__)

COSTED_FEEDS = 4
"""Feeds that noise is measured on: a few are enough, as it is a mean over all elements of all outputs."""
_MADE = "made"


def fused(prepared: Prepared, execution: Execution, target: Path) -> Prepared:
    """Return a component with its operators fused, which quantizers need, and every node named.

    Args:
        prepared: The component.
        execution: Its execution parameters.
        target: File of the graph.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    inputs, execution = prepared.component.inputs, execution.model_copy(update={"fuse_operators": True})
    try:
        make_ready(prepared.source.graph.path, target, inputs, execution)
        model = load_model(target)
    except EngineFailure as failure:
        if failure.reason is not FailureReason.TOOLCHAIN_CRASHED:
            raise
        log.info("%s The operators are not fused.", failure.message)
        model = load_model(prepared.ready)
    name_nodes(model)
    save_model(model, target)
    return dataclasses.replace(prepared, make_ready=lambda: target)


@dataclass
class QuantizedGraphs:
    """The quantized graphs of one component. A graph that an earlier process of the same work made is used again.

    Attributes:
        material: The input of quantizers.
        recipes: How forms are quantized.
        samples: The samples that the costs of nodes are measured on.
        excluded: Nodes that always stay in floating point.
    """

    material: Material
    recipes: Iterable[Recipe]
    samples: Samples
    excluded: frozenset[str] = frozenset()
    _by_spec: dict[FormSpec, Recipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Order the recipes by the forms that they make."""
        self._by_spec = {recipe.spec: recipe for recipe in self.recipes}

    def graph(self, spec: FormSpec) -> Path:
        """Return the quantized graph of a form: ONNX, or its runtime's own. It is made once for all runtimes.

        Raises:
            EngineFailure: Why it cannot be made; UNSUPPORTED_OPERATOR if none of its products is in integers.
            Overrun: There is no time left.
        """
        recipe = self._recipe(spec)
        excluded = self.excluded | set(spec.kept)
        folder = self.material.scratch / "graphs" / _digest(recipe, excluded)
        if (folder / _MADE).is_file():
            return folder / (folder / _MADE).read_text(encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        graph = _quantized(recipe, self.material, excluded, folder)
        coverage = coverage_of(graph) if spec.precision not in HALVES else None
        if coverage is not None and not coverage.quantized_products:
            raise nothing_quantized(coverage, spec.precision, excluded)
        (folder / _MADE).write_text(graph.name, encoding="utf-8")
        return graph

    def coverage(self, spec: FormSpec) -> Coverage:
        """Return how much of a form is in integers; nothing for half precision."""
        return Coverage() if spec.precision in HALVES else coverage_of(self.graph(spec))

    def notes(self, spec: FormSpec) -> list[str]:
        """Return what the quantizer of a form that was made has to say to the user."""
        path = self.graph(spec).with_name(NOTES)
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []

    def costly_nodes(self, spec: FormSpec, seconds: float) -> list[str]:
        """Return the quantized nodes of a form that may stay in floating point, the one that costs most first.

        None of a source that carries its quantization: that is kept as it is.
        """
        if isinstance(self._recipe(spec).quantizer, AsItIs):
            return []
        nodes = dict.fromkeys(cost.node for cost in self.costs(spec, seconds))
        return [name for name in nodes if name not in self.excluded]

    def costs(self, spec: FormSpec, seconds: float = BUDGET_SECONDS) -> list[NodeSensitivity]:
        """Return every quantized node of a form, the most sensitive first; none if the costs are unknown.

        An IR of OpenVINO cannot be compared with the ONNX graph node by node, so the same nodes are quantized for ONNX
        Runtime with the same settings, and stand in. Of a file of LiteRT and of a deploy model of AMCT, which ONNX
        Runtime does not run, the costs are unknown.
        """
        feeds = list(itertools.islice(self.samples.feeds, COSTED_FEEDS))
        try:
            graph = self.graph(spec)
            if graph.suffix == ".tflite" or isinstance(self._recipe(spec).quantizer, AmctQuantizer):
                return []
            if graph.suffix != ".onnx":
                graph = self._stand_in(spec)
            floating, quantized = load_model(self.material.graph), load_model(graph)
            return sensitivities(floating, quantized, feeds, min(seconds, BUDGET_SECONDS))
        except EngineFailure as failure:
            log.info("The cost of each node is unknown: %s", failure.message)
            return []

    def _recipe(self, spec: FormSpec) -> Recipe:
        return self._by_spec[FormSpec(spec.runtime, spec.precision, spec.quantizer)]

    def _stand_in(self, spec: FormSpec) -> Path:
        recipe = self._recipe(spec)
        weights = isinstance(recipe.quantizer, CompressedWeights)
        quantizer = recipe.quantizer if weights else StaticQdq(everything=False)
        folder = self.material.scratch / "stand-in"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        settings = dataclasses.replace(recipe.settings, runtime=OnnxRuntime.name)
        return quantizer.quantize(self.material, settings, self.excluded | set(spec.kept), folder)


def _quantized(recipe: Recipe, material: Material, excluded: frozenset[str], folder: Path) -> Path:
    material.progress(f"quantizing by {recipe.name}")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # tools print their progress
            graph = recipe.quantizer.quantize(material, recipe.settings, excluded, folder)
    except (EngineFailure, MemoryError):
        raise
    except Exception as error:
        log.info("%s raised", recipe.name, exc_info=error)
        raise EngineFailure(
            FailureReason.TOOLCHAIN_CRASHED,
            f"The quantizer failed: {first_line(error)}",
            evidence=str(error).strip()[-1000:],
        ) from error
    if graph.suffix == ".onnx":
        model = load_model(graph)
        separate_integers(model)
        save_model(model, graph)
    return graph


def _digest(recipe: Recipe, excluded: frozenset[str]) -> str:
    """Return a name for a graph: the same for all runtimes, unless the quantizer writes another graph for each."""
    settings = dataclasses.asdict(recipe.settings)
    if not isinstance(recipe.quantizer, CompressedWeights):
        del settings["runtime"]
    words = json.dumps([recipe.name, settings, sorted(excluded)], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def graph_weights(path: Path) -> int:
    """Return the bytes of an ONNX graph's tensors."""
    return sum(tensor.ByteSize() for tensor in all_tensors(load_model(path)))


def weights_size(form: BuiltForm) -> int:
    """Return the bytes of a form's weights: of an ONNX graph's tensors, of an IR's `.bin`, else of all its files."""
    if form.entry.suffix == ".onnx":
        return graph_weights(form.entry)
    weights = [name for name in form.files if name.endswith(".bin")] or form.files
    return sum((form.directory / name).stat().st_size for name in weights)
