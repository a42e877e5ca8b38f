"""What each quantized node costs, for forms of every kind."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math

from engines.failures import EngineFailure
from engines.graph.hygiene import load_model
from engines.quantization.gate import JudgedForm
from engines.quantization.onnxruntime_quantizers import StaticQdq
from engines.quantization.plan import Candidate
from engines.quantization.sensitivity import NodeSensitivity, sensitivities
from engines.quantization.workshop import Workshop

log = logging.getLogger(__name__)

FEEDS = 4
"""Feeds that noise is measured on: it is a mean over all elements of all outputs, which few samples settle."""


def node_costs(workshop: Workshop, candidate: Candidate, form: JudgedForm) -> list[NodeSensitivity]:
    """Return every quantized node of a form, the most sensitive first; none where it cannot be told.

    What NNCF did to OpenVINO's IR cannot be held against the ONNX graph node by node, so the same nodes are quantized
    by ONNX Runtime with the same settings, and stand in.
    """
    graph = form.graph
    material = workshop.material
    feeds = list(itertools.islice(workshop.gate.samples.feeds, FEEDS))
    try:
        if graph.suffix != ".onnx":
            if material.feeds is None:
                return []
            settings = dataclasses.replace(candidate.settings, runtime="onnxruntime")
            proxy = material.scratch / "stand-in"
            proxy.mkdir(exist_ok=True)
            graph = StaticQdq(everything=False).quantize(material, settings, form.excluded, proxy)
        return sensitivities(load_model(material.graph), load_model(graph), feeds)
    except EngineFailure as failure:
        log.info("What each node costs cannot be told: %s", failure.message)
        return []


def cost_fields(costs: list[NodeSensitivity]) -> list[dict[str, str | float]]:
    """Return costs as `lathe.quantizer.v1.NodeSensitivity`."""
    return [cost.to_dict() for cost in costs if math.isfinite(cost.sqnr_db)]
