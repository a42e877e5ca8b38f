"""What each quantized node costs, for forms of every kind."""

from __future__ import annotations

import itertools
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

from engines.failures import EngineFailure
from engines.graph.hygiene import load_model
from engines.quantization.direct_quantizers import CompressedWeights
from engines.quantization.gate import JudgedForm
from engines.quantization.onnxruntime_quantizers import StaticQdq
from engines.quantization.plan import Candidate
from engines.quantization.quantizers import Material
from engines.quantization.sensitivity import NodeSensitivity, sensitivities
from engines.quantization.workshop import Workshop

log = logging.getLogger(__name__)

FEEDS = 4
"""Feeds that noise is measured on: it is a mean over all elements of all outputs, which few samples settle."""


def node_costs(workshop: Workshop, candidate: Candidate, form: JudgedForm) -> list[NodeSensitivity]:
    """Return every quantized node of a form, the most sensitive first; none where it cannot be told.

    An IR of OpenVINO cannot be held against the ONNX graph node by node, so the same nodes are quantized for ONNX
    Runtime with the same settings, and stand in.
    """
    feeds = list(itertools.islice(workshop.gate.samples.feeds, FEEDS))
    try:
        graph = form.graph if form.graph.suffix == ".onnx" else _stand_in(workshop.material, candidate, form.excluded)
        return sensitivities(load_model(workshop.material.graph), load_model(graph), feeds)
    except EngineFailure as failure:
        log.info("What each node costs cannot be told: %s", failure.message)
        return []


def _stand_in(material: Material, candidate: Candidate, excluded: frozenset[str]) -> Path:
    quantizer = (
        candidate.quantizer if isinstance(candidate.quantizer, CompressedWeights) else StaticQdq(everything=False)
    )
    out_dir = material.scratch / "stand-in"
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.mkdir()
    return quantizer.quantize(material, replace(candidate.settings, runtime="onnxruntime"), excluded, out_dir)


def cost_fields(costs: list[NodeSensitivity]) -> list[dict[str, str | float]]:
    """Return costs as `lathe.quantizer.v1.NodeSensitivity`."""
    return [cost.to_dict() for cost in costs if math.isfinite(cost.sqnr_db)]
