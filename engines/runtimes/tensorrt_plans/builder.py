"""Builds a plan: ONNX graph → network → plan, for the shapes of a signature.

typed graph ──parser──▶ network ──builder, with a profile (min, opt, max of each input)──▶ plan
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.tensorrt_plans import vendor
from engines.runtimes.tensorrt_plans.knobs import set_knobs
from engines.runtimes.tensorrt_plans.refusals import failed_build, refused_by_parser
from engines.runtimes.tensorrt_plans.watching import Watch, monitor, task_logger
from engines.sandbox.deadline import Overrun
from engines.tensors.signature import Signature

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanRequest:
    """What a plan is built of.

    Attributes:
        title: Name of the runtime in failures.
        graph: The ONNX file; it states its types, and may have its weights beside it.
        signature: The shapes to build for.
        precision: Arithmetic of the graph, as the API names it.
        architecture: The chip, by its name in the catalog: `sm_86`.
        knobs: Differences from the defaults.
        progress: Takes the fraction that is done, and what is being done.
    """

    title: str
    graph: Path
    signature: Signature
    precision: str
    architecture: str
    knobs: Mapping[str, str]
    progress: Callable[[float, str], None]


def build_plan(trt: Any, asked: PlanRequest, timings: Sequence[bytes] | None = None) -> tuple[bytes, bytes]:
    """Return a plan, and the timing cache after the build.

    Args:
        trt: The vendor's module.
        asked: What is built.
        timings: Timing caches of earlier builds, which are merged; empty to begin one; None for none.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR with node and operator, UNSUPPORTED_PRECISION, OUT_OF_MEMORY, INVALID_MODEL,
            SHAPE_MISMATCH, INVALID_SPEC, TOOLCHAIN_UNAVAILABLE or TOOLCHAIN_CRASHED.
        Overrun: There was not enough time.
    """
    logger = task_logger(trt)
    errors: list[str] = logger.errors
    errors.clear()
    builder = _made(trt.Builder(logger), asked, errors)
    network = _made(builder.create_network(vendor.network_flags(trt)), asked, errors)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(asked.graph)):
        found = list(vendor.parser_errors(parser))
        raise refused_by_parser(asked.title, asked.graph, found) if found else _failed(asked, errors)
    config = builder.create_builder_config()
    set_knobs(trt, config, asked.knobs)
    vendor.aim(trt, asked.title, config, asked.architecture)
    vendor.state_precision(trt, asked.title, config, asked.precision)
    profile = builder.create_optimization_profile()
    _set_shapes(asked, network, profile)
    if config.add_optimization_profile(profile) < 0:
        raise _failed(asked, errors)
    cache = use_timings(config, timings)
    watch = Watch(asked.progress)
    if vendor.monitors(trt):
        config.progress_monitor = monitor(trt, watch)
    plan = builder.build_serialized_network(network, config)
    if watch.stopped:
        raise Overrun
    if plan is None:
        raise _failed(asked, errors)
    return bytes(plan), bytes(cache.serialize()) if cache is not None else b""


def _made(made: Any, asked: PlanRequest, errors: list[str]) -> Any:
    if made is None:
        raise _failed(asked, errors)
    return made


def _failed(asked: PlanRequest, errors: list[str]) -> EngineFailure:
    return failed_build(asked.title, asked.graph, errors)


def _set_shapes(asked: PlanRequest, network: Any, profile: Any) -> None:
    """Set the shapes of each input of the network.

    Raises:
        EngineFailure: INVALID_SPEC if the signature lacks an input; UNSUPPORTED_OPERATOR if one is read as a shape.
    """
    specs = {spec.name: spec for spec in asked.signature.inputs}
    for place in range(network.num_inputs):
        given = network.get_input(place)
        if given.name not in specs:
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"The graph's input '{given.name}' is not declared; declared are {', '.join(specs) or 'none'}.",
                suggested_fix="Declare every input of the graph by its own name.",
            )
        if given.is_shape_tensor:
            raise EngineFailure(
                FailureReason.UNSUPPORTED_OPERATOR,
                f"The values of the input '{given.name}' are a shape, which {asked.title} must know before it builds.",
                node=given.name,
                suggested_fix="Export the graph with this value as a constant.",
            )
        spec = specs[given.name]
        profile.set_shape(given.name, spec.min, spec.opt, spec.max)


def use_timings(config: Any, timings: Sequence[bytes] | None) -> Any:
    """Let a build begin with what was timed before; TensorRT takes no cache of another chip or version."""
    if timings is None:
        return None
    cache = config.create_timing_cache(b"")
    for each in timings:
        other = config.create_timing_cache(each)
        if other is None or not cache.combine(other, False):
            log.info("A timing cache of %d bytes is not of this chip and version, and is left aside", len(each))
    config.set_timing_cache(cache, False)
    return config.get_timing_cache()
